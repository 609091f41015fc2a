"""What a running system looks like in a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from forestall.cli.live_tables import (
    applications_summary,
    applications_table,
    busiest_table,
    guests_table,
    patterns_table,
    profile_table,
    sequences_table,
    status_table,
)

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "connect": "qemu:///system",
    "asked": "enforce",
    "mode": "enforce",
    "fault": "",
    "lost": "",
    "cycles": 7,
    "cycle_seconds": 0.25,
    "step_seconds": 10,
    "uptime_seconds": 70.0,
    "vms": 3,
    "altered": [],
    "kept_back": [],
    "lead_seconds": {},
    "anomalies": {"vm-3": "leak"},
    "anomaly_scores": {"vm-3": "score 0.98: memory 0.90"},
    "groups": [{"resource": "cpu", "vm_ids": ["a", "b"], "lag_seconds": [0, 10], "correlation": 0.81}],
    "expert_seconds": {"boosted": 0.0123},
    "pools": [],
}


def shown(**changes: Any) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(status_table(STATUS | changes))
    return capture.get()


CORES: dict[str, Any] = {
    "loan": {"reserved": 1.25, "lent": 2.5, "free": 0.25, "reason": "more is lent when it lasts"},
    "reserved": {"web": 1.25},
    "limits": {"batch-[1]": 2.5},
    "misses": 3,
    "decisions": 100,
    "wake_us": 41.2,
    "timing": {
        "ticks": 400,
        "late": 2,
        "late_now": False,
        "tick_ms": [0.6, 2.1],
        "decision_ms": [0.9, 1.2],
        "cpu_share": 0.021,
    },
    "refusals": {"ci-7": "it is gone"},
}


def test_what_is_lent_is_in_the_status() -> None:
    text = shown(cores=CORES)
    for part in ("reserved 1.25, lent 2.50, free 0.25; more is lent when it lasts", "batch-[1] 2.50", "2 late"):
        assert part in text
    text = " ".join(text.replace("│", " ").split())
    for part in ("2.1% of a core", "3 misses", "41 µs", "ci-7: it is gone"):
        assert part in text


def test_a_burst_loop_that_has_just_begun_is_shown_too() -> None:
    young = CORES | {"wake_us": None, "timing": CORES["timing"] | {"tick_ms": [None, None]}, "limits": {}}
    text = shown(cores=young)
    assert "400 ticks" in text
    assert "waking" not in text


def test_without_a_burst_loop_nothing_is_said_of_it() -> None:
    assert "cores lent" not in shown(cores={})


@pytest.mark.parametrize(
    ("measured", "told"),
    [({"quota": 0.0043, "balloon": 1.5}, "balloon 1.5 s, quota 0.0043 s"), ({"vcpu": 12.0}, "vcpu 12 s")],
)
def test_status_shows_how_long_each_means_takes(measured: dict[str, float], told: str) -> None:
    assert told in shown(lead_seconds=measured)


def test_without_a_measurement_nothing_is_said_of_lead_times() -> None:
    assert "lead times" not in shown()


def test_the_cause_of_an_anomaly_and_who_moves_together_are_shown() -> None:
    assert "vm-3: leak (score 0.98: memory 0.90)" in shown()
    assert "cpu: a, b (+10 s); correlation 0.81" in shown()
    crowd = {"resource": "cpu", "vm_ids": [f"v{n}" for n in range(20)], "lag_seconds": [0] * 20, "correlation": 0.5}
    assert "v7, and 12 more; correlation 0.50" in " ".join(shown(groups=[crowd]).split())


def test_the_channel_to_each_guest_is_a_line() -> None:
    guest = {
        "vm_id": "web", "connected": True, "speaking": True, "windows_per_s": 10.0, "age_seconds": 0.1,
        "round_trip_seconds": [0.004, None], "agent_cpu_cores": 0.0051, "agent_memory_bytes": 13.5e6, "lost": 3,
        "dropped": {"flood": 7, "bytes": 1},
    }  # fmt: skip
    silent = {**guest, "vm_id": "db[red]", "connected": False, "speaking": False, "age_seconds": None, "dropped": {}}
    console = Console(width=140)
    with console.capture() as capture:
        console.print(guests_table([guest, silent]))
    text = capture.get()
    for part in ("speaks", "4.0 ms", "0.51 %", "12.9MiB", "bytes 1, flood 7", "no contact", "db[red]"):
        assert part in text


def test_sequences_patterns_and_profiles_are_shown() -> None:
    console = Console(width=140)
    row = {"after": "fork", "seen": 40, "cpu_cores_in_half_a_second": 1.0, "cpu_cores_in_five_seconds": 0.3}
    sequences = {"vm_id": "a", "common": [{**row, "soon": {"write": 0.8}}], "now": None}
    rates = dict.fromkeys(("disk_read", "disk_write", "net_rx", "net_tx"), 2048.0)
    pattern = {"number": 3, "seen": 7, "seconds": None, "cpu_cores": 0.5}
    pattern |= {f"{name}_bytes_per_s": value for name, value in rates.items()}
    patterns = {"vm_id": "a", "patterns": [pattern], "now": {"number": 3, "steps": 2, "following": [[1, 0.75]]}}
    profile = {"vm_id": "a", "vectors": [0] * 25 + [9] + [0] * 142, "mean": {"x": [None] * 25 + [1.5] + [None] * 142}}
    with console.capture() as capture:
        console.print(sequences_table(sequences), patterns_table(patterns), profile_table(profile, ["x"]))
    text = " ".join(capture.get().split())
    for part in (
        "fork 40 1.00 0.30 write 0.80",
        "* 3 7 – 0.50 2kiB/s",
        "since 2 vectors; then usually 1 (0.75)",
        "Tue 01 9 1.5",
    ):
        assert part in text


def text_of(table: Any) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_applications_are_shown_with_what_tells_of_them() -> None:
    known = {
        "vm_id": "web-1[x]",
        "application": "web",
        "probability": 0.991,
        "traffic": {"web": 0.98, "unknown": 0.02},
        "behaviour": None,
        "protocols": {"TLS": 10, "HTTP": 90, "RTP": 1, "RTSP": 0},
        "tag": "web",
    }
    unknown = known | {
        "vm_id": "b",
        "application": "unknown",
        "probability": 1.0,
        "traffic": None,
        "protocols": {},
        "tag": None,
    }
    first, second = [line for line in text_of(applications_table([known, unknown])).splitlines() if "│" in line]
    assert [cell.strip() for cell in first.split("│")[1:-1]] == [
        "web-1[x]",
        "web 0.99",
        "web 0.98",
        "–",
        "HTTP, TLS, RTP",
        "web",
    ]
    assert [cell.strip() for cell in second.split("│")[1:-1]] == ["b", "unknown 1.00", "–", "–", "", ""]
    shown = text_of(applications_summary([{"trust_group": "", "application": "web", "vms": 12, "probability": 0.9}]))
    assert "(none)" in shown
    assert "12" in shown


def test_the_busiest_of_a_guest_are_shown_whatever_it_calls_them() -> None:
    row = {"name": "[red]evil[/red]", "cpu_cores": 0.5, "faults_per_s": 10.0, "read_bytes_per_s": 2048.0}
    shown = text_of(busiest_table({"vm_id": "a", "processes": [row], "groups": [{"name": "x.service"}]}))
    assert "[red]evil[/red]" in shown
    assert "2kiB/s" in shown.replace("KiB", "kiB")
    assert "control group" in shown


def test_memory_that_is_staged_is_a_line_and_who_is_refused_another() -> None:
    staging = {"vms": ["a", "b"], "staged_bytes": 3 << 20, "core_ratio": 0.0071, "refusals": {"c": "no shared memfd"}}
    told = " ".join(shown(staging=staging).replace("│", " ").split())
    assert "3.0 MiB for 2 VMs; 0.71 % of a core" in told
    assert "c: no shared memfd" in told
    assert "memory staged" not in shown(staging={})
