"""A guest whose work grows holds more before it is short, and less when that is over.

Its days last 48 s, of which the daemon is told (a time lapse); its work grows in the morning and is least at night.
What the guest says of its use, its pressure and the work that waits stands beside what the journal says of that hour.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live_daemon import PATIENCE_SECONDS, Ask, Daemon, Held, load

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.clock.time_lapse import TimeLapse
from forestall.adapters.linux.proc import Processes
from forestall.lab.guest import curve
from forestall.lab.site import Lab
from forestall.model.resources import Resource

pytestmark = [pytest.mark.guests, pytest.mark.slow]
GUEST = "spare"
DAY_SECONDS, HOUR, DAYS = 48.0, 2.0, 4
SHAPE = "web"
"""Of the lab's day curves: least at 4, most at 9 and at 15."""
NIGHT, MORNING, FORENOON = 3, 5, 10
PACE = 86_400.0 / DAY_SECONDS
SETTINGS = f"""\
step_seconds = 3600
cold_seconds = 21600
violation_budget = 0.01
resources = ["cpu"]
[learning]
retrain = "off"
[safety]
lease_seconds = 36000
stale_seconds = 18000
clock_jump_seconds = 7200.0
[time_lapse]
pace = {PACE}
"""


@dataclass(frozen=True)
class Look:
    """One look at the guest: its hour since the first midnight, what it held and for how long it ran since the look
    before (cores, by the host), and what it said then. ``used`` has its waiting for a core of a busy host in it;
    ``done`` is pieces of work a second: what it ran has the emulator's own cost in it, dearer on a busy host."""

    hour: float
    held: float
    ran: float
    level: float
    used: float
    stalled_share: float
    waiting: int
    done: float


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
def days_of_work(lab: Lab, midnight: float) -> Iterator[None]:
    """What the guest has to do follows the hour."""
    over = threading.Event()

    def live() -> None:
        while not over.wait(HOUR / 4):
            load(lab, GUEST, curve.shape(SHAPE, (time.time() - midnight) / HOUR % 24))

    with ThreadPoolExecutor(1) as pool:
        lived = pool.submit(live)
        try:
            yield
        finally:
            over.set()
            lived.result()
            load(lab, GUEST, 0.0)


def looks(lab: Lab, cpu: Callable[[], float], midnight: float) -> list[Look]:
    """Look at the guest as often as it reports, for all of the days."""
    pid, processes = next(row["pid"] for row in lab.status() if row["guest"] == GUEST), Processes()

    def ran_seconds() -> float:
        return sum(times.run_seconds for times in processes.vcpu_times(pid).values())

    found = []
    with lab.link(GUEST) as link:
        before, began, ran = link.fresh(PATIENCE_SECONDS), time.monotonic(), ran_seconds()
        while (hour := (time.time() - midnight) / HOUR) < 24 * DAYS:
            amount, said = cpu(), link.fresh(PATIENCE_SECONDS)
            now, ran_now = time.monotonic(), ran_seconds()
            found.append(_look(before, said, hour, amount, (ran_now - ran) / (now - began)))
            before, began, ran = said, now, ran_now
    return found


def _look(before: Mapping[str, Any], said: Mapping[str, Any], hour: float, held: float, ran: float) -> Look:
    seconds = said["uptime_seconds"] - before["uptime_seconds"]
    stalled = said["pressure"]["cpu"]["some"]["total_seconds"] - before["pressure"]["cpu"]["some"]["total_seconds"]
    done = (said["work"]["done"] - before["work"]["done"]) / seconds
    used = (_busy_seconds(said) - _busy_seconds(before)) / seconds
    return Look(hour, held, ran, said["load"]["level"], used, stalled / seconds, said["work"]["queue"], done)


def _busy_seconds(report: Mapping[str, Any]) -> float:
    return sum(seconds for kind, seconds in report["cpu_seconds"].items() if kind not in ("idle", "iowait"))


def mean_of(name: str, looks: list[Look], first: float, last: float) -> float:
    """Mean of an attribute over the looks of some hours of the last day; NaN where the guest said nothing."""
    hours = [getattr(look, name) for look in looks if first <= look.hour - 24 * (DAYS - 1) < last]
    return sum(hours) / len(hours) if hours else math.nan


def hour_by_hour(daemon: Daemon, lab: Lab, seen: list[Look], midnight: float) -> Iterator[str]:
    """The last day: what the journal says was decided for each hour, and what the guest says of it."""
    lapse = TimeLapse(SystemClock(), PACE, midnight)
    yield "hour | journal: allocated | host: held, ran | guest: level, used, stalled, waiting, done"
    for hour in range(24):
        at = lapse.instant(midnight + (24 * (DAYS - 1) + hour + 0.5) * HOUR)
        (told,) = json.loads(daemon.call("explain", lab.domain(GUEST), "--at", str(int(at)), "--json").stdout)
        names = ("held", "ran", "level", "used", "stalled_share", "waiting", "done")
        figures = " ".join(f"{mean_of(name, seen, hour, hour + 1):.3f}" for name in names)
        yield f"{hour:4} | {told['allocated']:.2f} | {figures}"


def test_more_before_it_is_short_and_less_when_it_is_over(lab: Lab, daemon: Daemon, held: Ask, midnight: float) -> None:
    daemon.start("enforce")
    with days_of_work(lab, midnight):
        seen = looks(lab, lambda: held()[GUEST, Resource.CPU], midnight)
    print("\n".join(hour_by_hour(daemon, lab, seen, midnight)))
    night, forenoon = (mean_of("held", seen, h, h + 2) for h in (NIGHT, FORENOON - 1))
    assert mean_of("done", seen, FORENOON - 1, FORENOON + 1) > 2 * mean_of("done", seen, NIGHT, NIGHT + 2), "it works"
    assert forenoon > 1.3 * night, "and holds more"
    assert mean_of("held", seen, 22, 24) < 0.9 * forenoon, "less when that is over"
    pairs = [(mean_of("held", seen, h, h + 1), mean_of("ran", seen, h + 1, h + 2)) for h in range(MORNING, FORENOON)]
    pairs = [pair for pair in pairs if not math.isnan(sum(pair))]
    assert len(pairs) >= 3, "the guest has reported"
    holds, runs = (sum(amounts) / len(pairs) for amounts in zip(*pairs, strict=True))
    assert holds >= runs, f"over the morning it holds in each hour what it runs in the next: {pairs}"
    enough = [held >= ran for held, ran in pairs]
    assert 2 * sum(enough) > len(enough), f"in most hours it does, though a busy host makes work dearer: {pairs}"
    assert mean_of("waiting", seen, MORNING, FORENOON + 1) < 3, "its work does not wait"
