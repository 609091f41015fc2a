"""The two behaviour stores beside each other: how fast samples come in and out, and what they take on the disk.

``python benchmarks/stores.py`` (PostgreSQL has to be installed; it runs a server of its own, which syncs as a real one
does). First many VMs for an hour, then fewer for a day. ``--row-wise``: PostgreSQL also with psycopg's own encoding.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.postgresql import writing
from forestall.adapters.postgresql.store import PostgresqlStore
from forestall.model.resources import Resource
from forestall.ports.store import BehaviourStore, Resolution, Retention, SampleBatch
from forestall.testing.store import maintained

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "adapters"))
from postgresql_server import running_server

STEP, HOUR, DAY = 10, 3600, 86_400
RESOURCES = (Resource.CPU, Resource.MEMORY)
KEEP_NOTHING = Retention(raw_seconds=0)
SERVER = {"max_wal_size": "4GB", "shared_buffers": "512MB"}


def batches(vms: int, seconds: int) -> Iterator[SampleBatch]:
    """Cores to four decimals and memory in whole pages, with noise about a daily cycle."""
    dice, names = np.random.default_rng(7), [f"vm-{i:05}" for i in range(vms)]
    phase, level = dice.uniform(0, 2 * np.pi, vms), dice.uniform(0.2, 2.0, vms)
    limit = np.broadcast_to([4.0, 2.0**33], (vms, 2))
    for at in range(0, seconds, STEP):
        cycle = 1 + 0.5 * np.sin(at * 2 * np.pi / DAY + phase)
        cores = np.round(np.clip(level * cycle + dice.normal(0, 0.1, vms), 0, 4), 4)
        pages = np.round(2**19 * (cycle + dice.normal(0, 0.01, vms)))
        yield SampleBatch(at, names, RESOURCES, np.stack([cores, pages * 4096], axis=1), limit)


def appended(store: BehaviourStore, vms: int, seconds: int, together: int = 1) -> list[float]:
    """Seconds that each append took, of some batches together."""
    took, waiting = [], []
    for batch in batches(vms, seconds):
        waiting.append(batch)
        if len(waiting) == together:
            took.append(timed(partial(store.append, waiting)))
            waiting = []
    return took


def timed(work: Callable[[], Any], times: int = 1) -> float:
    """Median of the seconds that something takes."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return float(np.median(took))


def measured(name: str, store: BehaviourStore, size: Callable[[], int], vms: int, seconds: int, together: int) -> None:
    """Print what there is to say of one store."""
    values = vms * len(RESOURCES) * (seconds // STEP)
    took = np.array(appended(store, vms, seconds, together)) * 1e3
    half, most = np.percentile(took, [50, 99])
    one = {"since": 0, "until": seconds, "vm_ids": ["vm-00042"]}
    some = {"since": seconds - 600, "until": seconds}
    lines = {
        "samples a second, appended": f"{values / took.sum() * 1e3:,.0f}",
        "an append, P50 / P99": f"{half:.1f} / {most:.1f} ms",
        "all of one VM": f"{timed(lambda: store.history(**one), 9) * 1e3:.1f} ms",
        "10 minutes of all VMs": f"{timed(lambda: store.history(**some), 3) * 1e3:.0f} ms",
        "bytes a sample, as written": f"{size() / values:.1f}",
        "rolling up": f"{timed(lambda: maintained(store, 0)):.1f} s",
        "hours of all VMs": f"{timed(lambda: store.history(since=0, until=seconds, resolution=Resolution.HOUR)):.2f} s",
        "archiving": f"{timed(lambda: maintained(store, 3 * DAY)):.1f} s",
        "all of one VM, archived": f"{timed(lambda: store.history(**one), 9) * 1e3:.1f} ms",
        "bytes a sample, all in all, archived": f"{size() / values:.1f}",
    }
    print(f"\n{name}: {vms} VMs, {len(RESOURCES)} resources, {seconds} s at {STEP} s, {together} steps in an append")
    for what, figure in lines.items():
        print(f"  {what:<38}{figure:>16}", flush=True)


def row_wise(cursor: Any, table: str, rows: Any, columns: list[str]) -> None:
    """As :func:`forestall.adapters.postgresql.copying.copy_in`, but psycopg encodes each value."""
    names = ["instant", "vm", *columns]
    with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int8", "int4"] + ["float8"] * len(columns))
        for row in zip(*(rows[name].to_numpy().tolist() for name in names), strict=True):
            copy.write_row(row)


@contextmanager
def replaced(function: Any) -> Iterator[None]:
    """Another way to copy rows in."""
    writing.copy_in, kept = function, writing.copy_in
    try:
        yield
    finally:
        writing.copy_in = kept


def main() -> None:
    """Measure both stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, default=5000, help="for an hour")
    parser.add_argument("--day-vms", type=int, default=500, help="for a day; 0: not at all")
    parser.add_argument("--row-wise", action="store_true")
    asked = parser.parse_args()
    rounds = [(asked.vms, HOUR, 1)] + ([(asked.day_vms, DAY, 6)] if asked.day_vms else [])
    for vms, seconds, together in rounds:
        with tempfile.TemporaryDirectory(prefix="forestall-stores-") as folder:
            path = Path(folder)
            store: Any = DuckdbStore(path / "s.duckdb", step_seconds=STEP, retention=KEEP_NOTHING)
            size = lambda path=path: sum(f.stat().st_size for f in path.rglob("*") if f.is_file())  # noqa: E731
            measured("DuckDB", store, size, vms, seconds, together)
            store.close()
        with running_server(SERVER) as server:
            url = server.new_database()
            store = PostgresqlStore(url, step_seconds=STEP, retention=KEEP_NOTHING)

            def size_of_tables(store: Any = store) -> int:
                with store._database.snapshot() as cursor:
                    ((size,),) = cursor.execute("SELECT pg_database_size(current_database())").fetchall()
                    return int(size)

            measured("PostgreSQL", store, size_of_tables, vms, seconds, together)
            store.close()
    if asked.row_wise:
        with running_server(SERVER) as server:
            for name, function in (("arrays", writing.copy_in), ("row-wise", row_wise)):
                store = PostgresqlStore(server.new_database(), step_seconds=STEP)
                with replaced(function):
                    took = np.array(appended(store, asked.vms, 600)[1:]) * 1e3
                print(f"an append with binary COPY from {name}: P50 {np.median(took):.1f} ms")
                store.close()


if __name__ == "__main__":
    main()
