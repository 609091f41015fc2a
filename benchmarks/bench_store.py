"""How fast the DuckDB store takes samples in and gives them back, and what a value costs on the disk.

Run with ``pytest benchmarks/bench_store.py --benchmark-enable --benchmark-only --benchmark-json=FILE``;
derived figures (values a second, bytes a value) stand under ``extra_info``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from forestall.adapters.duckdb.store import DuckdbStore
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace
from forestall.ports.loading import load_history
from forestall.ports.store import Resolution, Retention, SampleBatch

DAY = 86_400
RESOURCES = (Resource.CPU, Resource.MEMORY, Resource.NET_RX, Resource.NET_TX)


def week(vms: int = 100, days: int = 7, step_seconds: int = 60) -> Trace:
    """Daily cycles with noise: cores to four decimals, memory in whole pages, bytes a second."""
    dice, steps = np.random.default_rng(7), days * DAY // step_seconds
    phase, level = dice.uniform(0, 2 * np.pi, vms), dice.uniform(0.2, 2.0, vms)
    cycle = 1 + 0.5 * np.sin(np.arange(steps)[:, None] * 2 * np.pi * step_seconds / DAY + phase)
    noise = dice.normal(0, 0.1, (steps, vms))
    traffic = np.round(dice.gamma(2, 5000, (steps, vms)) * cycle)
    demand: dict[Resource, FloatArray] = {
        Resource.CPU: np.round(np.clip(level * cycle + noise, 0, 4), 4),
        Resource.MEMORY: np.round(2**18 * (cycle + noise / 10)) * 4096,
        Resource.NET_RX: traffic,
        Resource.NET_TX: np.round(traffic * 0.4 + dice.gamma(2, 500, (steps, vms))),
    }
    limits = {Resource.CPU: 4.0, Resource.MEMORY: 2.0**32}
    limit = {r: np.full((steps, vms), limits.get(r, np.inf)) for r in RESOURCES}
    return Trace(Grid(0, step_seconds, steps), tuple(f"vm-{i:04}" for i in range(vms)), demand, limit)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckdbStore]:
    store = DuckdbStore(tmp_path_factory.mktemp("week") / "s.duckdb")
    load_history(week(), store)
    store.maintain(7 * DAY)
    yield store
    store.close()


def test_ingest_while_queried(benchmark: Any, tmp_path: Path) -> None:
    """5 steps of 1000 VMs and 4 resources in each call, made durable, while another thread reads."""
    store, vms = DuckdbStore(tmp_path / "s.duckdb"), [f"vm-{i:04}" for i in range(1000)]
    dice, at, queries, done = np.random.default_rng(7), [0], [0], threading.Event()
    limit = np.full((1000, len(RESOURCES)), 4.0)

    def batches() -> tuple[tuple[list[SampleBatch]], dict[str, Any]]:
        steps = [at[0] + 60 * i for i in range(5)]
        at[0] += 300
        return ([SampleBatch(s, vms, RESOURCES, dice.random(limit.shape), limit) for s in steps],), {}

    def read() -> None:
        while not done.wait(0.05):
            store.history(since=max(at[0] - 3600, 0), until=at[0], vm_ids=vms[:10])
            queries[0] += 1

    store.append(batches()[0][0])
    reader = threading.Thread(target=read)
    reader.start()
    benchmark.pedantic(store.append, setup=batches, rounds=100)
    done.set()
    reader.join()
    benchmark.extra_info["values_per_s"] = 5 * limit.size / benchmark.stats.stats.mean
    benchmark.extra_info["queries_meanwhile"] = queries[0]
    store.close()


def test_ingest_of_small_batches(benchmark: Any, tmp_path: Path) -> None:
    """One step of 100 VMs in each call: what a single host does every few seconds."""
    store, trace = DuckdbStore(tmp_path / "s.duckdb"), week(days=1)
    steps = iter(trace.observations(RESOURCES))

    def one() -> tuple[tuple[list[SampleBatch]], dict[str, Any]]:
        seen = next(steps)
        return ([SampleBatch(seen.at, seen.vm_ids, RESOURCES, seen.demand, seen.limit)],), {}

    benchmark.pedantic(store.append, setup=one, rounds=200)
    benchmark.extra_info["values_per_s"] = 400 / benchmark.stats.stats.mean
    store.close()


def test_history_of_100_vms_over_7_days(benchmark: Any, loaded: DuckdbStore) -> None:
    trace = benchmark.pedantic(loaded.history, kwargs={"since": 0, "until": 7 * DAY}, rounds=5)
    assert len(trace.vm_ids) == 100
    benchmark.extra_info["values_per_s"] = 7 * 1440 * 400 / benchmark.stats.stats.mean


def test_history_of_one_vm_over_7_days(benchmark: Any, loaded: DuckdbStore) -> None:
    benchmark(loaded.history, since=0, until=7 * DAY, vm_ids=["vm-0042"])


def test_hours_of_100_vms_over_7_days(benchmark: Any, loaded: DuckdbStore) -> None:
    benchmark(loaded.history, since=0, until=7 * DAY, resolution=Resolution.HOUR)


def test_archiving_and_size(benchmark: Any, tmp_path: Path) -> None:
    """Roll-up and archive of a week; sizes are those of the raw samples, in the database and archived."""
    path, trace = tmp_path / "s.duckdb", week()
    store = DuckdbStore(path, retention=Retention(raw_seconds=DAY))
    values = load_history(trace, store)
    store.close()
    with duckdb.connect(str(path)) as database:
        ((block_bytes, used_blocks),) = database.execute(
            "SELECT block_size, used_blocks FROM pragma_database_size()"
        ).fetchall()
    store = DuckdbStore(path, retention=Retention(raw_seconds=DAY))
    benchmark.pedantic(store.maintain, args=(7 * DAY,), rounds=1)
    restored = store.history(since=0, until=7 * DAY)
    store.close()
    for resource in RESOURCES:
        np.testing.assert_array_equal(restored.demand[resource], trace.demand[resource])
    archive_bytes = sum(f.stat().st_size for f in (tmp_path / "s-archive").iterdir())
    benchmark.extra_info["raw_bytes_per_value"] = block_bytes * used_blocks / values
    benchmark.extra_info["archive_bytes_per_value"] = archive_bytes / (values * 6 / 7)
    benchmark.extra_info["values_per_s"] = values / benchmark.stats.stats.mean
