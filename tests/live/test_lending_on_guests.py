"""Cores lent on real guests: the daemon starts the burst loop, the borrower gives way, all is back when they die."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_daemon import SETTINGS, Ask, Daemon, Held, load

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.linux.cgroups import ControlGroups
from forestall.adapters.linux.proc import Processes
from forestall.lab.site import Lab
from forestall.model.resources import Resource

pytestmark = [pytest.mark.guests, pytest.mark.slow]
LENDER, BORROWER = "database", "spare"
FILES = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "cpu.idle", "cpu.max", "cpu.weight")
BACK_WITHIN_SECONDS = 2.0

State = Callable[[], dict[str, str]]


@pytest.fixture
def state(lab: Lab) -> State:
    """How the kernel has the borrower's group."""
    from forestall.adapters.libvirt.host import LibvirtHost

    host = LibvirtHost(lab.uri, clock=SystemClock())
    try:
        host.observe()
        process = host.processes()[lab.domain(BORROWER)]
    finally:
        host.close()
    folder = ControlGroups().folder("cpu", Processes().control_groups(process.pid))
    if folder is None or not (folder / "cpu.idle").exists():
        pytest.skip("the guests have no group of the CPU controller, or the kernel no idle class")
    return lambda: {name: (folder / name).read_text().strip() for name in FILES if (folder / name).exists()}


@pytest.fixture
def lending(lab: Lab, tmp_path: Path, held: Ask, before: Held) -> Iterator[Daemon]:
    """A daemon whose policy has a borrower; not yet started."""
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[burst]\nborrowers = ["{lab.domain(BORROWER)}"]\n')
    daemon = Daemon(lab, tmp_path, settings=f'policies = "{policy}"\n{SETTINGS}')
    yield daemon
    if daemon.runs:
        daemon.end()
    daemon.ask("restore")
    daemon.until(lambda: all(before[key] == amount for key, amount in held().items()), "everything back at the end")


def limited(state: State) -> bool:
    """Whether the borrower gives way to everybody."""
    return state()["cpu.idle"] == "1"


def test_the_borrower_gives_way_and_everything_is_back_when_the_daemon_is_killed(
    lab: Lab, lending: Daemon, state: State
) -> None:
    original = state()
    assert not limited(state)
    lending.start("enforce")
    lending.until(lambda: limited(state), "the borrower gives way")
    lending.until(lambda: lending.ask("status")["cores"]["limits"], "what is lent is in the status")
    cores = lending.ask("status")["cores"]
    assert cores["limits"].keys() == {lab.domain(BORROWER)}
    assert lab.domain(LENDER) in cores["reserved"]
    text = lending.call("status").stdout
    assert "cores lent" in text
    assert lab.domain(BORROWER) in text
    row = next(
        row for row in lending.ask("vms") if (row["vm_id"], row["resource"]) == (lab.domain(BORROWER), Resource.CPU)
    )
    assert "runs on cores that are lent" in row["reason"]
    lending.end(signal.SIGKILL)
    killed = time.monotonic()
    lending.until(lambda: state() == original, "the borrower as it was", 30.0)
    assert time.monotonic() - killed < BACK_WITHIN_SECONDS


def test_a_lender_that_works_has_its_cores_reserved(lab: Lab, lending: Daemon, state: State) -> None:
    lending.start("enforce")
    lender = lab.domain(LENDER)

    def reserved() -> float:
        return float(lending.ask("status")["cores"]["reserved"][lender])

    lending.until(lambda: limited(state), "the borrower gives way")
    lending.until(lambda: reserved() < 0.9, "little is reserved at rest")
    calm = reserved()
    load(lab, LENDER, 2.0)
    try:
        lending.until(lambda: reserved() > calm + 0.2, "more when it works")
    finally:
        load(lab, LENDER, 0.0)
    assert lending.end() == 0
    assert not limited(state)


def test_advice_touches_nobody(lab: Lab, lending: Daemon, state: State) -> None:
    original = state()
    lending.start("advise")
    lending.until(lambda: lending.ask("status")["cores"]["limits"][lab.domain(BORROWER)] >= 0, "what would be lent")
    assert state() == original
    assert lending.end() == 0
