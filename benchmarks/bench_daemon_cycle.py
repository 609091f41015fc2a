"""What the daemon costs a host: CPU seconds of one cycle, and memory, for 200 VMs seen every 10 s.

The whole cycle is measured: looking at a simulated host, keeping samples in DuckDB, learning and forecasting CPU and
memory, ruling, and the journal. Run with ``make bench``, or::

    pytest benchmarks/bench_daemon_cycle.py --benchmark-enable
"""

from __future__ import annotations

import resource as process_resource
import time
from pathlib import Path

import numpy as np
import pytest

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.duckdb.journal import DuckdbJournal
from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.files.originals import FileOriginals
from forestall.adapters.simulated.host import SimulatedHost
from forestall.bootstrap.models import models_in_use
from forestall.demand.driver import Driver, Ports
from forestall.demand.driver_settings import DriverSettings
from forestall.demand.health import HealthSettings
from forestall.demand.settings import DemandSettings
from forestall.learning.recurrent.forecaster import RecurrentSettings
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace

VMS, STEP_SECONDS, STEPS, WARM_CYCLES, ROUNDS = 200, 10, 400, 120, 40
CPU, MEMORY = Resource.CPU, Resource.MEMORY


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * process_resource.getpagesize()


def made_up() -> Trace:
    """VMs that use a fifth of what they have, a little more and a little less."""
    generator, shape = np.random.default_rng(0), (STEPS, VMS)
    cpu = np.minimum(generator.gamma(1.0, 0.3, VMS) * generator.gamma(20.0, 0.05, shape), 4.0)
    memory = 2.0**30 * (1.0 + 0.05 * generator.random(shape))
    limit = {CPU: np.full(shape, 4.0), MEMORY: np.full(shape, 2.0**33)}
    return Trace(
        Grid(0, STEP_SECONDS, STEPS), tuple(f"vm-{i:03}" for i in range(VMS)), {CPU: cpu, MEMORY: memory}, limit
    )


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ENFORCE])
def test_cycle(benchmark, tmp_path: Path, mode: Mode) -> None:  # type: ignore[no-untyped-def]
    """Seconds of one cycle; CPU seconds, resident memory and growth of the file go into ``extra_info``."""
    clock, path = VirtualClock(0.0), tmp_path / "forestall.duckdb"
    store, journal = DuckdbStore(path, step_seconds=STEP_SECONDS), DuckdbJournal(path)
    ports = Ports(SimulatedHost(made_up(), clock), store, journal, FileOriginals(tmp_path / "originals"), clock)
    settings = DriverSettings(
        DemandSettings(STEP_SECONDS, recurrent=RecurrentSettings(models_in_use(None, print))),
        HealthSettings(3 * STEP_SECONDS),
        mode,
    )
    driver = Driver(ports, settings)
    driver.start()

    def cycle() -> None:
        clock.advance(STEP_SECONDS)
        driver.cycle()

    for _ in range(WARM_CYCLES):
        cycle()
    before, rows = time.process_time(), len(list(journal.decisions()))
    benchmark.pedantic(cycle, rounds=ROUNDS)
    benchmark.extra_info["cpu_seconds_per_cycle"] = (time.process_time() - before) / ROUNDS
    benchmark.extra_info["resident_bytes"] = resident_bytes()
    benchmark.extra_info["decisions_per_cycle"] = (len(list(journal.decisions())) - rows) / ROUNDS
    journal.close()
    store.close()
    benchmark.extra_info["file_bytes"] = path.stat().st_size
    benchmark.extra_info["changed_vms"] = len(driver.altered)
