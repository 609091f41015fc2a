"""Forestall and a reactive policy in a closed loop with guests made of the recorded lab trace.

A replay of a trace never meets what a limit does: work that is held back is done later, and what was wanted beyond
the limit is not seen. Here a guest is a queue: each second brings the CPU time that was recorded, as much is done
as the limit allows, the rest waits. Forestall is the whole driver, on a simulated host; it sees what was done and for
how long a guest was stopped. The reactive policy holds the last value with a margin. A table of both, CPU only::

    python benchmarks/closed_loop.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.duckdb.journal import DuckdbJournal
from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.files.originals import FileOriginals
from forestall.adapters.simulated.host import SimulatedHost
from forestall.demand.driver import Driver, Ports
from forestall.demand.driver_settings import DriverSettings
from forestall.demand.health import HealthSettings
from forestall.demand.settings import DemandSettings
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, Grid, Observation, Trace
from forestall.replay.recorded.lab import RECORDING
from forestall.replay.trace_reader import read_trace

CPU = Resource.CPU
SECONDS, STEP_SECONDS, FLOOR_CORES = 5, 720, 0.1
"""A cycle is 5 s of the recording, which are 720 s of the guests' life."""
AT_CAP_RATIO, THROTTLED_SHARE, WAITING_CPU_SECONDS = 0.97, 0.5, 0.3


@dataclass
class Queues:
    """Guests as queues: ``work`` (second, vm) arrives, in CPU seconds; ``limit`` (vm,) in cores."""

    work: FloatArray
    limit: FloatArray
    waiting: FloatArray = field(init=False)
    log: list[tuple[FloatArray, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nothing waits."""
        self.waiting = np.zeros(len(self.limit))

    def serve(self, cycle: int, held: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Let a cycle pass at ``held`` cores (vm,): cores used, and the share of time in which each was stopped."""
        used, stopped = np.zeros((2, len(held)))
        for second in range(cycle * SECONDS, (cycle + 1) * SECONDS):
            wanted = self.waiting + self.work[second]
            done = np.minimum(wanted, np.minimum(held, self.limit))
            self.waiting = wanted - done
            used, stopped = used + done / SECONDS, stopped + (wanted > done + 1e-9) / SECONDS
        self.log.append((held, used, stopped, self.waiting))
        return used, stopped

    def scores(self, after_cycles: int) -> list[float]:
        """Per cent of intervals at the cap, mostly stopped, and left with work waiting; slack."""
        held, used, stopped, waiting = (np.array(column)[after_cycles:] for column in zip(*self.log, strict=True))
        below: BoolArray = held < 0.99 * self.limit
        at_cap = below & (used >= AT_CAP_RATIO * held)
        mostly_stopped = below & (stopped > THROTTLED_SHARE)
        left = below & (waiting > WAITING_CPU_SECONDS)
        return [*(100 * float(bad.mean()) for bad in (at_cap, mostly_stopped, left)), held.sum() / used.sum() - 1]


class QueuesHost(SimulatedHost):
    """A simulated host whose guests are queues."""

    def __init__(self, trace: Trace, clock: VirtualClock, queues: Queues) -> None:
        super().__init__(trace, clock)
        self._queues = queues
        self._stopped: dict[str, float] = {}

    def observe(self) -> Observation:
        """What was used in the cycle that ends; to be asked once a cycle."""
        seen, cycle = super().observe(), len(self._queues.log)
        if not seen.vm_ids:
            return seen
        held = np.array([self.in_force(vm_id)[CPU] for vm_id in seen.vm_ids])
        used, stopped = self._queues.serve(cycle, held)
        self._stopped = dict(zip(seen.vm_ids, stopped.tolist(), strict=True))
        return replace(seen, demand=used[:, None])

    def throttled(self) -> dict[str, float]:
        """Share of the last cycle in which each guest was stopped."""
        return self._stopped


def forestall(work: FloatArray, limit: FloatArray, budget: float, folder: Path) -> Queues:
    """Let Forestall hold the guests, from the first cycle to the last."""
    cycles, vms = len(work) // SECONDS, tuple(f"vm-{k}" for k in range(len(limit)))
    demand = work[: cycles * SECONDS].reshape(cycles, SECONDS, -1).mean(axis=1)
    trace = Trace(
        Grid(STEP_SECONDS, STEP_SECONDS, cycles), vms, {CPU: demand}, {CPU: np.tile(limit, (cycles, 1)).astype(float)}
    )
    clock, queues, path = VirtualClock(float(STEP_SECONDS)), Queues(work, limit), folder / f"{budget}.duckdb"
    store, journal = DuckdbStore(path, step_seconds=STEP_SECONDS), DuckdbJournal(path)
    originals = FileOriginals(folder / f"originals-{budget}")
    demand_settings = DemandSettings(STEP_SECONDS, budgets=(budget,), cold_seconds=12 * STEP_SECONDS)
    settings = DriverSettings(
        demand_settings,
        HealthSettings(3 * STEP_SECONDS),
        Mode.ENFORCE,
        resources=(CPU,),
        lease_seconds=5.0 * STEP_SECONDS,
    )
    driver = Driver(Ports(QueuesHost(trace, clock, queues), store, journal, originals, clock), settings)
    driver.start()
    for _ in range(cycles):
        clock.advance(STEP_SECONDS)
        driver.cycle()
    journal.close()
    store.close()
    return queues


def rule(work: FloatArray, limit: FloatArray, amount: Callable[[FloatArray], FloatArray]) -> Queues:
    """Hold what a rule makes of what was used in the last cycle (vm,)."""
    queues, held = Queues(work, limit), limit
    for cycle in range(len(work) // SECONDS):
        used, _ = queues.serve(cycle, held)
        held = np.clip(amount(used), FLOOR_CORES, limit)
    return queues


def recorded(guests: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """CPU time of the recording by second (second, vm), gaps filled with what was before; limits (vm,)."""
    trace = read_trace(RECORDING)
    chosen = [k for k, vm_id in enumerate(trace.vm_ids) if vm_id.endswith(tuple(guests))]
    work = pd.DataFrame(trace.demand[CPU][:, chosen]).ffill().bfill()
    return work.to_numpy(), np.nanmax(trace.known_limit(CPU)[:, chosen], axis=0)


def main(arguments: argparse.Namespace) -> None:
    """Print the table."""
    work, limit = recorded(arguments.guests)
    after = round(60 * arguments.after / SECONDS)
    rows = {
        f"reactive, last value + {margin:.0%}": rule(work, limit, lambda used, m=margin: (1 + m) * used)
        for margin in arguments.margins
    }
    with tempfile.TemporaryDirectory() as folder:
        rows |= {f"forestall, budget {b:.0%}": forestall(work, limit, b, Path(folder)) for b in arguments.budgets}
    columns = ["at cap %", "mostly stopped %", "work waits %", "slack"]
    table = pd.DataFrame([queues.scores(after) for queues in rows.values()], list(rows), columns)
    print(table.round(2).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guests", nargs="+", default=["web", "database", "batch"])
    parser.add_argument("--after", type=float, default=20.0, help="minutes of the recording that are history")
    parser.add_argument("--margins", type=float, nargs="+", default=[0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.6])
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.05, 0.02, 0.01])
    main(parser.parse_args())
