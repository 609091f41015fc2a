"""A live loop over a simulated host, for tests: everything in memory, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.simulated.host import SimulatedHost
from forestall.adapters.simulated.memory_journal import MemoryJournal
from forestall.adapters.simulated.memory_store import MemoryStore
from forestall.demand.driver import Driver, Ports
from forestall.demand.driver_settings import DriverSettings
from forestall.demand.health import HealthSettings
from forestall.demand.settings import DemandSettings
from forestall.learning.boosted import BoostedSettings
from forestall.model.errors import StoreError
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace
from forestall.ports.hypervisor import Capability, Inventory, VmSettings

CPU, MEMORY = Resource.CPU, Resource.MEMORY
STEP = 60
GIB = float(1 << 30)
SETTINGS = DriverSettings(
    # Never trained: half a second for each test.
    DemandSettings(STEP, cold_seconds=180, boosted=BoostedSettings(first_training_seconds=10**9)),
    HealthSettings(stale_seconds=3 * STEP),
    Mode.ENFORCE,
    (CPU, MEMORY),
    lease_seconds=3 * STEP,
)


class MemoryOriginals:
    """Originals that last as long as the test; ``full`` makes writing fail, as on a full disk."""

    def __init__(self) -> None:
        self.entries: dict[str, VmSettings] = {}
        self.full = False

    def keep(self, settings: VmSettings) -> VmSettings:
        """Keep, unless this incarnation is kept."""
        kept = self.entries.get(settings.vm_id)
        if kept is not None and kept.incarnation == settings.incarnation:
            return kept
        if self.full:
            raise StoreError("no space left on device")
        self.entries[settings.vm_id] = settings
        return settings

    def kept(self) -> tuple[VmSettings, ...]:
        """Every entry."""
        return tuple(self.entries[name] for name in sorted(self.entries))

    def forget(self, vm_id: str) -> None:
        """Drop an entry."""
        self.entries.pop(vm_id, None)


def small_trace(vms: int = 4, steps: int = 120, seed: int = 5) -> Trace:
    """VMs that use about a fifth of what they have."""
    generator = np.random.default_rng(seed)
    cpu = np.minimum(generator.gamma(20.0, 0.04, (steps, vms)), 4.0)
    memory = GIB * np.clip(1.0 + 0.02 * generator.standard_normal((steps, vms)).cumsum(axis=0), 0.5, 3.0)
    shape = (steps, vms)
    limits = {CPU: np.full(shape, 4.0), MEMORY: np.full(shape, 8 * GIB)}
    return Trace(Grid(0, STEP, steps), tuple(f"vm-{i}" for i in range(vms)), {CPU: cpu, MEMORY: memory}, limits)


@dataclass
class LiveHost:
    """A driver and all its parts; :meth:`run` lets cycles pass."""

    trace: Trace = field(default_factory=small_trace)
    settings: DriverSettings = SETTINGS
    inventory: dict[Resource, Inventory] | None = None
    capabilities: dict[Resource, Capability] | None = None
    crashes_at: Sequence[float] = ()
    policies: Any = None

    def __post_init__(self) -> None:
        """Build everything."""
        self.clock = VirtualClock(float(self.trace.grid.start))
        self.host = SimulatedHost(self.trace, self.clock, inventory=self.inventory, capabilities=self.capabilities)
        self.store, self.journal = MemoryStore(step_seconds=self.trace.grid.step_seconds), MemoryJournal()
        self.originals = MemoryOriginals()
        self.notes: list[str] = []
        self.driver = self.new_driver()

    def new_driver(self, **changes: Any) -> Driver:
        """Another driver on the same host, as after a restart."""
        ports = Ports(self.host, self.store, self.journal, self.originals, self.clock)
        self.driver = Driver(
            ports,
            replace(self.settings, **changes),
            self.policies,
            crashes_at=self.crashes_at,
            note=self.notes.append,
        )
        return self.driver

    def run(self, cycles: int = 1) -> LiveHost:
        """Let cycles pass, one a step."""
        for _ in range(cycles):
            self.clock.advance(self.trace.grid.step_seconds)
            self.driver.cycle()
        return self

    def held(self, resource: Resource = CPU) -> list[float]:
        """What is in force for each running VM."""
        return [self.host.in_force(vm_id)[resource] for vm_id in self.host.vm_ids()]

    def lowered(self) -> list[str]:
        """VMs that do not have what was recorded for them."""
        return [v for v in self.host.vm_ids() if self.host.settings(v).values["amounts"]]
