"""The daemon's hourly housekeeping."""

from __future__ import annotations

import threading
from pathlib import Path

from daemons import steady_trace

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.files.restorations import FileRestorations
from forestall.adapters.simulated.host import SimulatedHost
from forestall.adapters.simulated.memory_journal import MemoryJournal
from forestall.adapters.simulated.memory_store import MemoryStore
from forestall.demand.driver import Driver, Ports
from forestall.demand.driver_settings import DriverSettings
from forestall.demand.health import HealthSettings
from forestall.demand.settings import DemandSettings
from forestall.model.decision import Restoration
from forestall.model.errors import StoreError
from forestall.model.mode import Mode
from forestall.ports.hypervisor import VmSettings
from forestall.service.daemon import Daemon
from forestall.service.stopping import Signals

STEP = 300


class NoOriginals:
    """Originals of a loop that changes nothing."""

    def keep(self, settings: VmSettings) -> VmSettings:
        """Never called."""
        raise AssertionError

    def kept(self) -> tuple[VmSettings, ...]:
        """None."""
        return ()

    def forget(self, vm_id: str) -> None:
        """Nothing to forget."""


class Heart:
    """Beats unheard."""

    def beat(self, mode: Mode) -> None:
        """Say nothing."""


class FullStore(MemoryStore):
    """A store that cannot be tidied up."""

    def maintain(self, now: int) -> None:
        """Fail."""
        raise StoreError("no space left on device")


class BacklogStore(MemoryStore):
    """A store that says twice that more is left, and remembers when it was tidied up."""

    def __init__(self, *, step_seconds: int) -> None:
        super().__init__(step_seconds=step_seconds)
        self.maintained_at: list[int] = []

    def maintain(self, now: int) -> bool:
        """Remember."""
        self.maintained_at.append(now)
        return len(self.maintained_at) < 3


class WatchedJournal(MemoryJournal):
    """A journal that remembers when it was tidied up."""

    def __init__(self) -> None:
        super().__init__()
        self.maintained_at: list[int] = []

    def maintain(self, now: int) -> None:
        """Remember."""
        self.maintained_at.append(now)


def test_store_and_journal_are_tidied_up_once_an_hour_whatever_becomes_of_the_other(tmp_path: Path) -> None:
    trace, said = steady_trace(2, 40), list[str]()
    clock = VirtualClock(float(trace.grid.start))
    store, journal = FullStore(step_seconds=STEP), WatchedJournal()
    ports = Ports(SimulatedHost(trace, clock), store, journal, NoOriginals(), clock)
    driver = Driver(ports, DriverSettings(DemandSettings(STEP), HealthSettings(3.0 * STEP), Mode.OBSERVE))
    word = FileRestorations(tmp_path)
    daemon = Daemon(driver, clock, Heart(), store, journal, word, threading.RLock(), lambda: None, said.append)
    word.append([Restoration("vm-0", trace.grid.start, "by the watchdog: it hung")])
    assert daemon.run(Signals(), cycles=30) == 0
    assert [r.why for r in journal.restorations("vm-0")] == ["by the watchdog: it hung"]
    assert word.held() == ()
    assert journal.maintained_at == [trace.grid.start + 3600, trace.grid.start + 7200]
    assert said.count("the store could not be tidied up: no space left on device") == 2


def test_what_has_more_to_do_has_its_turn_again_soon(tmp_path: Path) -> None:
    trace = steady_trace(2, 40)
    clock = VirtualClock(float(trace.grid.start))
    store, journal = BacklogStore(step_seconds=STEP), WatchedJournal()
    ports = Ports(SimulatedHost(trace, clock), store, journal, NoOriginals(), clock)
    driver = Driver(ports, DriverSettings(DemandSettings(STEP), HealthSettings(3.0 * STEP), Mode.OBSERVE))
    word, turn = FileRestorations(tmp_path), threading.RLock()
    daemon = Daemon(driver, clock, Heart(), store, journal, word, turn, lambda: None, lambda _: None)
    assert daemon.run(Signals(), cycles=20) == 0
    assert store.maintained_at == [trace.grid.start + 3600 + STEP * i for i in range(3)]
    assert journal.maintained_at == [trace.grid.start + 3600]
