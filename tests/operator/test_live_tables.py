"""What a running system looks like in a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from forestall.cli.live_tables import status_table

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
    "expert_seconds": {"boosted": 0.0123},
    "pools": [],
}


def shown(**changes: Any) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(status_table(STATUS | changes))
    return capture.get()


@pytest.mark.parametrize(
    ("measured", "told"),
    [({"quota": 0.0043, "balloon": 1.5}, "balloon 1.5 s, quota 0.0043 s"), ({"vcpu": 12.0}, "vcpu 12 s")],
)
def test_status_shows_how_long_each_means_takes(measured: dict[str, float], told: str) -> None:
    assert told in shown(lead_seconds=measured)


def test_without_a_measurement_nothing_is_said_of_lead_times() -> None:
    assert "lead times" not in shown()
