"""The daemon on real guests: more before a guest is short, less when it is calm, everything back whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("libvirt", reason="libvirt-python is not installed")

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.libvirt.host import LibvirtHost
from forestall.lab.commands import PACKAGES, missing
from forestall.lab.image import obtain_image
from forestall.lab.place import DEFAULT_CACHE
from forestall.lab.site import Lab
from forestall.model.errors import ForestallError
from forestall.model.resources import Resource

pytestmark = [pytest.mark.guests, pytest.mark.slow]
PATIENCE_SECONDS, WORK_SECONDS, LEASE_SECONDS = 150.0, 15.0, 20
BUSY, CALM = "batch", "database"
FORESTALL = (sys.executable, "-c", "import sys; from forestall.cli import main; sys.exit(main())")
SETTINGS = f"""\
step_seconds = 2
cold_seconds = 20
violation_budget = 0.1
[safety]
lease_seconds = {LEASE_SECONDS}
stale_seconds = 15
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two guests, at rest."""
    if lacking := missing(PACKAGES):
        pytest.skip(lacking)
    try:
        obtain_image(DEFAULT_CACHE, print)
    except ForestallError as error:
        pytest.skip(str(error))
    with Lab(Path(tempfile.mkdtemp(prefix="fs-live-", dir="/run")), name=f"fs-live-{os.getpid()}") as lab:
        lab.up((BUSY, CALM), day_seconds=1e6)
        lab.wait(PATIENCE_SECONDS)
        for guest in lab.guests:
            with lab.link(guest) as link:
                link.ask({"load": 0.0}, PATIENCE_SECONDS)
        yield lab


class Daemon:
    """``forestall run`` in a process of its own, and the commands that speak to it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        (folder / "forestall.toml").write_text(f'connect = "{lab.uri}"\nstate_folder = "{folder}/state"\n{SETTINGS}')
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, mode: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen((*self._command("run"), "--mode", mode), stdout=log, stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def ask(self, *command: str) -> Any:
        done = subprocess.run((*self._command(*command), "--json"), capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def watchdog(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command("watchdog"))

    def _command(self, *command: str) -> tuple[str, ...]:
        return (*FORESTALL, *command, "--config", str(self.folder / "forestall.toml"))


@pytest.fixture
def daemon(lab: Lab, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that is not yet started; gone, and everything back, at the end."""
    daemon = Daemon(lab, tmp_path)
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.end()
    daemon.ask("restore")


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process of ours when the block is left."""
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@pytest.fixture
def held(lab: Lab) -> Iterator[Callable[[], dict[tuple[str, Resource], float]]]:
    """What libvirt itself says that the guests hold, asked apart from the daemon."""
    host = LibvirtHost(lab.uri, clock=SystemClock())
    yield lambda: {(g, r): amount for g in lab.guests for r, amount in host.in_force(lab.domain(g)).items()}
    host.close()


def until(true: Callable[[], Any], what: str, daemon: Daemon, patience: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition; fail with what was awaited and what the daemon said."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(TypeError, KeyError):
            if true():
                return
        time.sleep(0.2)
    pytest.fail(f"not within {patience:g} s: {what}\n{daemon.log.read_text()[-3000:]}\n{daemon.ask('vms')}")


def most_of(amount: Callable[[], float], seconds: float) -> float:
    """The highest amount that is seen within a time."""
    deadline, most = time.monotonic() + seconds, 0.0
    while time.monotonic() < deadline:
        most = max(most, amount())
        time.sleep(0.5)
    return most


def load(lab: Lab, level: float) -> None:
    with lab.link(BUSY) as link:
        link.ask({"load": level}, PATIENCE_SECONDS)


def test_advice_changes_nothing(lab: Lab, daemon: Daemon, held: Callable[[], dict[Any, float]]) -> None:
    before = held()
    daemon.start("advise")
    until(
        lambda: any("would be set" in row["reason"] for row in daemon.ask("vms")),
        "a piece of advice",
        daemon,
    )
    assert held() == before
    assert daemon.ask("status")["altered"] == []


def test_it_takes_gives_and_puts_back(lab: Lab, daemon: Daemon, held: Callable[[], dict[Any, float]]) -> None:
    before = held()
    cpu, memory = (BUSY, Resource.CPU), (CALM, Resource.MEMORY)
    daemon.start("enforce")
    until(lambda: held()[cpu] < 0.8 * before[cpu], "less CPU for a guest at rest", daemon)
    until(lambda: held()[memory] < 0.9 * before[memory], "less memory for a guest at rest", daemon)
    calm = held()[cpu]
    load(lab, 1.0)
    try:
        until(lambda: held()[cpu] > 1.5 * calm, "more CPU for a guest that works", daemon)
        most = most_of(lambda: held()[cpu], WORK_SECONDS)
    finally:
        load(lab, 0.0)
    until(lambda: held()[cpu] < 0.9 * most, "less again when it rests", daemon, 2 * PATIENCE_SECONDS)
    assert daemon.ask("explain", lab.domain(BUSY))
    assert daemon.ask("restore", lab.domain(CALM)) is not None
    until(lambda: held()[memory] == before[memory], "memory back at an operator's word", daemon)
    assert daemon.end() == 0
    assert held() == before, "everything is back when the daemon has been told to stop"


def test_a_daemon_that_is_killed(lab: Lab, daemon: Daemon, held: Callable[[], dict[Any, float]]) -> None:
    before = held()
    with ended(daemon.watchdog()):
        daemon.start("enforce")
        until(lambda: held() != before, "a change", daemon)
        daemon.end(signal.SIGKILL)
        until(lambda: held() == before, "everything back within the lease", daemon, LEASE_SECONDS + 10.0)


def test_a_libvirtd_that_is_restarted(lab: Lab, daemon: Daemon, held: Callable[[], dict[Any, float]]) -> None:
    before = held()
    daemon.start("enforce")
    until(lambda: held() != before, "a change", daemon)
    lab.restart_daemon()
    cycles = daemon.ask("status")["cycles"]
    until(lambda: daemon.ask("status")["cycles"] > cycles + 2 and not daemon.ask("status")["lost"], "contact", daemon)
    assert daemon.end() == 0
    assert held() == before
