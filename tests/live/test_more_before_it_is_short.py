"""A guest whose work grows at the same hour every day holds more before it begins, and less when it is over.

Its days last 48 s, of which the daemon is told (a time lapse). What the guest says of its pressure and of the work that
waits stands beside what the journal says of the same hour.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live_daemon import PATIENCE_SECONDS, Ask, Daemon, Held, load

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.clock.time_lapse import TimeLapse
from forestall.lab.site import Lab
from forestall.model.resources import Resource

pytestmark = [pytest.mark.guests, pytest.mark.slow]
GUEST = "spare"
DAY_SECONDS, HOUR, DAYS = 48.0, 2.0, 5
FIRST_HOUR, LAST_HOUR = 8, 14
CALM_LEVEL, BUSY_LEVEL = 0.05, 0.9
PACE = 86_400.0 / DAY_SECONDS
SETTINGS = f"""\
step_seconds = 3600
cold_seconds = 21600
violation_budget = 0.02
resources = ["cpu"]
[safety]
lease_seconds = 36000
stale_seconds = 18000
clock_jump_seconds = 7200.0
[time_lapse]
pace = {PACE}
"""


@dataclass(frozen=True)
class Look:
    """One look at the guest: its hour since the first midnight, what it held (cores), and what it said then."""

    hour: float
    held: float
    level: float
    used: float
    stalled_share: float
    waiting: int


@pytest.fixture
def midnight() -> float:
    """When the first day begins: now."""
    return time.time()


@pytest.fixture
def daemon(lab: Lab, tmp_path: Path, held: Ask, before: Held, midnight: float) -> Iterator[Daemon]:
    """A daemon that lives in the guest's time."""
    daemon = Daemon(lab, tmp_path, settings=f"{SETTINGS}midnight_at = {midnight}\n")
    yield daemon
    if daemon.runs:
        daemon.end()
    assert held() == before


@contextmanager
def working_days(lab: Lab, midnight: float) -> Iterator[None]:
    """The guest works from eight to two, and has hardly anything to do at other hours."""
    over = threading.Event()

    def live() -> None:
        level = None
        while not over.wait(0.05):
            hour = (time.time() - midnight) / HOUR % 24
            wanted = BUSY_LEVEL if FIRST_HOUR <= hour < LAST_HOUR else CALM_LEVEL
            if wanted != level:
                load(lab, GUEST, wanted)
                level = wanted

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        load(lab, GUEST, 0.0)


def looks(lab: Lab, cpu: Callable[[], float], midnight: float) -> list[Look]:
    """Look at the guest as often as it reports, for all of the days."""
    found = []
    with lab.link(GUEST) as link:
        before = link.fresh(PATIENCE_SECONDS)
        while (hour := (time.time() - midnight) / HOUR) < 24 * DAYS:
            amount, said = cpu(), link.fresh(PATIENCE_SECONDS)
            found.append(_look(before, said, hour, amount))
            before = said
    return found


def _look(before: Mapping[str, Any], said: Mapping[str, Any], hour: float, held: float) -> Look:
    seconds = said["uptime_seconds"] - before["uptime_seconds"]
    stalled = said["pressure"]["cpu"]["some"]["total_seconds"] - before["pressure"]["cpu"]["some"]["total_seconds"]
    used = (_busy_seconds(said) - _busy_seconds(before)) / seconds
    return Look(hour, held, said["load"]["level"], used, stalled / seconds, said["work"]["queue"])


def _busy_seconds(report: Mapping[str, Any]) -> float:
    return sum(seconds for kind, seconds in report["cpu_seconds"].items() if kind not in ("idle", "iowait"))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_more_before_it_is_short_and_less_when_it_is_over(lab: Lab, daemon: Daemon, held: Ask, midnight: float) -> None:
    daemon.start("enforce")
    with working_days(lab, midnight):
        seen = looks(lab, lambda: held()[GUEST, Resource.CPU], midnight)
    day = DAYS - 1
    hours = [look for look in seen if look.hour >= 24 * day]
    print("\n".join(f"{look.hour - 24 * day:5.1f} h {look}" for look in hours))

    def held_in(first: float, last: float) -> float:
        return mean([look.held for look in hours if first <= look.hour - 24 * day < last])

    calm, busy, after = held_in(2, FIRST_HOUR - 1), held_in(FIRST_HOUR + 1, LAST_HOUR), held_in(LAST_HOUR + 4, 24)
    assert busy > 1.2 * calm, "more while it works"
    assert after < 0.9 * busy, "less when that is over"
    # What was in force when the first hour of work began was decided an hour before, on samples of the calm night.
    lapse = TimeLapse(SystemClock(), PACE, midnight)
    begins = int(lapse.instant(midnight + (24 * day + FIRST_HOUR) * HOUR))
    (told,) = daemon.ask("explain", lab.domain(GUEST), "--at", str(begins))
    print(
        f"the journal, of {begins}: {told['decided_at']}, {told['previous']} -> {told['allocated']}: {told['reason']}"
    )
    assert told["decided_at"] < begins
    assert told["allocated"] > 1.1 * calm, "more before the work begins"
    first = [look for look in hours if FIRST_HOUR <= look.hour - 24 * day < FIRST_HOUR + 2]
    assert max(look.waiting for look in first) < 10, "and so the work does not wait"
