"""The daemon on real guests: advice changes nothing, enforcement takes and gives, a stop puts everything back."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from live_daemon import PATIENCE_SECONDS, Ask, Daemon, Held, load

from forestall.lab.site import Lab
from forestall.model.resources import Resource

pytestmark = [pytest.mark.guests, pytest.mark.slow]
WORK_SECONDS = 15.0
BUSY, CALM = "spare", "database"


def most_of(amount: Callable[[], float], seconds: float) -> float:
    """The highest amount that is seen within a time."""
    deadline, most = time.monotonic() + seconds, 0.0
    while time.monotonic() < deadline:
        most = max(most, amount())
        time.sleep(0.5)
    return most


def test_advice_changes_nothing(daemon: Daemon, held: Ask, before: Held) -> None:
    daemon.start("advise")
    daemon.until(lambda: any("would be set" in row["reason"] for row in daemon.ask("vms")), "a piece of advice")
    assert held() == before
    assert daemon.ask("status")["altered"] == []


def test_it_takes_gives_and_puts_back(lab: Lab, daemon: Daemon, held: Ask, before: Held) -> None:
    cpu, memory = (BUSY, Resource.CPU), (CALM, Resource.MEMORY)
    daemon.start("enforce")
    daemon.until(lambda: held()[cpu] < 0.8 * before[cpu], "less CPU for a guest at rest")
    daemon.until(lambda: held()[memory] < 0.9 * before[memory], "less memory for a guest at rest")
    calm = held()[cpu]
    load(lab, BUSY, 1.0)
    try:
        daemon.until(lambda: held()[cpu] > 1.5 * calm, "more CPU for a guest that works")
        most = most_of(lambda: held()[cpu], WORK_SECONDS)
    finally:
        load(lab, BUSY, 0.0)
    daemon.until(lambda: held()[cpu] < 0.9 * most, "less again when it rests", 2 * PATIENCE_SECONDS)
    assert daemon.ask("explain", lab.domain(BUSY))
    assert daemon.ask("restore", lab.domain(CALM)) is not None
    daemon.until(lambda: held()[memory] == before[memory], "memory back at an operator's word")
    assert daemon.end() == 0
    assert held() == before, "everything is back when the daemon has been told to stop"
