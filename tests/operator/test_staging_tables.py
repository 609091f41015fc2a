"""What is said of staging on a terminal."""

from __future__ import annotations

from typing import Any

from forestall.cli.staging_tables import SHOWN_VMS, shadowing_lines

MIB = 1 << 20


def status(used: dict[str, Any]) -> dict[str, Any]:
    counts = {"staged_bytes": 0, "most_bytes": 0, "core_ratio": 0.0, "held_back_seconds": 0.0, "waiting": 0}
    return counts | {"groups": {}, "dropped": {}, "refusals": {}, "used": used}


def test_what_vms_use_is_told_of_those_that_use_most() -> None:
    used = {
        f"vm-{k}": {"used_bytes": k * MIB, "all_bytes": 64 * MIB, "seconds": 60.4, "ranges": []}
        for k in range(SHOWN_VMS + 2)
    }
    lines = list(shadowing_lines(status(used)))[1:]
    assert lines[0] == "vm-7 has used 7 of 64 MiB of its memory within 60 s"
    assert lines[-1] == "and 2 VMs less: --json has all of them"
    assert len(lines) == SHOWN_VMS + 1


def test_where_it_is_used_most_is_told_where_that_is_known() -> None:
    ranges = [
        {"offset_bytes": 0, "size_bytes": 30 * MIB, "share": 0.1},
        {"offset_bytes": 32 * MIB, "size_bytes": 2 * MIB, "share": 0.9},
        {"offset_bytes": 40 * MIB, "size_bytes": MIB, "share": 0.9},
    ]
    row = {"used_bytes": 33 * MIB, "all_bytes": 64 * MIB, "seconds": 60.0, "ranges": ranges}
    told = "33 of 64 MiB of its memory of late, as far as DAMON sees; most often 2 MiB from 32 MiB on, in 90 % of looks"
    assert list(shadowing_lines(status({"web": row})))[1:] == [f"web has used {told}"]
