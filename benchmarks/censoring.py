"""What counting use at the cap as more is worth: the live loop over capped VMs, scored on their true demand.

The table of docs/decisions/0009 comes from::

    python benchmarks/censoring.py
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.simulated.host import SimulatedHost
from forestall.adapters.simulated.memory_journal import MemoryJournal
from forestall.adapters.simulated.memory_store import MemoryStore
from forestall.demand.censoring import CensoringSettings
from forestall.demand.driver import Driver, Ports
from forestall.demand.driver_settings import DriverSettings
from forestall.demand.health import HealthSettings
from forestall.demand.settings import DemandSettings
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.hypervisor import VmSettings
from forestall.replay.generator import Workload, generate

STEP_SECONDS, VMS, DAYS, SCORED_FROM, SEED = 300, 30, 2.0, 216, 7
NEVER = CensoringSettings(capped_ratio=9.0)
TRIED = {
    Resource.CPU: [
        CensoringSettings(*ratios)
        for ratios in ((0.95, 1.5, 1.5), (0.98, 1.5, 1.5), (0.98, 1.1, 1.5), (0.98, 1.25, 1.5), (0.98, 1.02, 1.5))
    ],
    Resource.MEMORY: [CensoringSettings(*ratios) for ratios in ((0.95, 1.5, 1.5), (0.9, 1.25, 1.25), (0.9, 1.1, 1.25))],
}


class NoOriginals:
    """Keeps nothing: nothing is put back here."""

    def keep(self, settings: VmSettings) -> VmSettings:
        """Give back what was given."""
        return settings

    def kept(self) -> tuple[VmSettings, ...]:
        """Nothing."""
        return ()

    def forget(self, vm_id: str) -> None:
        """Nothing to forget."""


def score(resource: Resource, censoring: CensoringSettings, *, capped: bool) -> tuple[float, float, float]:
    """Share of intervals in which true demand was above what was in force, unmet share of demand, and slack."""
    whole = generate(Workload(vms=VMS, days=DAYS), SEED)
    trace = replace(
        whole, demand={resource: whole.demand[resource]}, limit={resource: whole.limit[resource]}, cpu_peak=None
    )
    limit = trace.known_limit(resource)
    clock = VirtualClock(float(trace.grid.start))
    host = SimulatedHost(trace, clock, capped=capped)
    settings = DriverSettings(
        DemandSettings(STEP_SECONDS),
        HealthSettings(3 * STEP_SECONDS),
        Mode.ENFORCE,
        (resource,),
        lease_seconds=3 * STEP_SECONDS,
        censoring=dict.fromkeys(Resource, censoring),
    )
    store = MemoryStore(step_seconds=STEP_SECONDS)
    driver = Driver(Ports(host, store, MemoryJournal(), NoOriginals(), clock), settings)
    short, unmet, given, needed, intervals = 0, 0.0, 0.0, 0.0, 0
    for i in range(1, trace.grid.steps):
        clock.sleep_until(trace.grid.at(i))
        driver.cycle()
        if i <= SCORED_FROM:
            continue
        running = host.vm_ids()
        held = np.array([host.in_force(v)[resource] if v in running else np.nan for v in trace.vm_ids])
        demand = np.minimum(trace.demand[resource][i], limit[i])
        seen = ~np.isnan(demand) & ~np.isnan(held) & (limit[i] > 0)
        short += int((demand[seen] > held[seen] + 1e-9).sum())
        unmet += float(np.maximum(demand[seen] - held[seen], 0.0).sum())
        given, needed, intervals = given + held[seen].sum(), needed + demand[seen].sum(), intervals + int(seen.sum())
    return short / intervals, unmet / needed, (given - needed) / needed


if __name__ == "__main__":
    print(f"{'':32} violations    unmet    slack")
    for kind, tried in TRIED.items():
        runs = [("demand seen whole", NEVER, False), ("capped, taken as it is", NEVER, True)]
        runs += [(f"ratio {c.capped_ratio:g}, growth {c.first_growth:g}, {c.growth:g}", c, True) for c in tried]
        for name, settings_tried, is_capped in runs:
            violations, missing, slack = score(kind, settings_tried, capped=is_capped)
            print(f"{kind:7}{name:32}{violations:9.4f}{missing:9.4f}{slack:9.3f}", flush=True)
