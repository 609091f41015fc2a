"""Which anomalies of a VM are found, how soon, and what they are called, on a real trace into which some are put.

    python benchmarks/anomalies.py TRACE [--vms 80] [--seed 1]

Into each of so many VMs one anomaly is put after twelve days: memory that climbs to nearly its limit in twelve hours,
CPU at 97 % of its limit for six hours, network traffic of ten times the mean and 500 kB/s for three hours, or next to
no work for four hours. What is found in the rest of the trace, which nobody has labelled, counts as false.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from forestall.learning.past import floor_of, plausible
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.anomaly import KINDS, Kind, Watch
from forestall.replay.trace_reader import read_trace

DAY = 288
HOURS = {Kind.LEAK: 12, Kind.RUNAWAY: 6, Kind.SCAN_LIKE: 3, Kind.SILENT: 4}


def spoil(demand: FloatArray, limit: FloatArray, kind: Kind, vm: int, at: int, resources: list[Resource]) -> int:
    """Put an anomaly into ``demand`` (time, vm, resource); how many rows it lasts."""
    rows, place = HOURS[kind] * 12, {r: k for k, r in enumerate(resources)}
    part = demand[at : at + rows, vm]
    generator = np.random.default_rng(vm)
    if kind is Kind.LEAK:
        k = place[Resource.MEMORY]
        room = 0.95 * np.nanmax(limit[:, vm, k]) - np.nan_to_num(part[:, k])
        part[:, k] += np.linspace(0, 1, rows) * np.maximum(room, 0)
    elif kind is Kind.RUNAWAY:
        k = place[Resource.CPU]
        part[:, k] = 0.97 * np.nanmax(limit[:, vm, k]) * (1 - 0.02 * generator.random(rows))
    elif kind is Kind.SCAN_LIKE:
        for resource, share in ((Resource.NET_TX, 1.0), (Resource.NET_RX, 0.3)):
            k = place[resource]
            usual = np.nan_to_num(np.nanmean(demand[:at, vm, k]))
            part[:, k] += share * (5e5 + 10 * usual) * (1 + 0.1 * generator.random(rows))
    else:
        part[:, [k for r, k in place.items() if r is not Resource.MEMORY]] *= 0.01
    return rows


def main() -> None:
    """Run it and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("trace", type=Path)
    options.add_argument("--vms", type=int, default=80)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    trace = read_trace(given.trace, None, lambda line: None)
    resources = list(trace.resources)
    demand = np.stack([plausible(trace.demand[r], trace.known_limit(r)) for r in resources], axis=-1)
    limit = np.stack([trace.known_limit(r) for r in resources], axis=-1)
    generator = np.random.default_rng(given.seed)
    steps, vms, _ = demand.shape
    put: list[tuple[Kind, int, int, int]] = []
    spoilt = np.zeros((steps, vms), dtype=bool)
    for i, vm in enumerate(generator.permutation(vms)[: given.vms].tolist()):
        kind, at = tuple(HOURS)[i % len(HOURS)], int(generator.integers(12 * DAY, steps - 3 * DAY))
        rows = spoil(demand, limit, kind, vm, at, resources)
        put.append((kind, vm, at, rows))
        spoilt[at : at + rows + DAY, vm] = True
    anomalous, kinds = watched(demand, limit, resources, trace.grid.step_seconds)
    for kind in HOURS:
        delays, names, mine = [], Counter[str](), [p for p in put if p[0] is kind]
        for _, vm, at, rows in mine:
            window = slice(at, at + rows + 12)
            hits = np.flatnonzero(anomalous[window, vm])
            if len(hits) and not anomalous[at - 1, vm]:
                delays.append(int(hits[0]) * 5)
                names[KINDS[Counter(kinds[window, vm][hits].tolist()).most_common(1)[0][0]]] += 1
        print(
            f"{kind}: {len(delays)} of {len(mine)}, after {np.median(delays):.0f} min in the median, as {dict(names)}"
        )
    begins = anomalous[1:] & ~anomalous[:-1] & ~spoilt[1:]
    months = vms * (steps - 3 * DAY) / (30 * DAY)
    called = Counter(KINDS[k].value for k in kinds[1:][begins])
    print(
        f"elsewhere: {begins.sum() / months:.2f} a VM and month, {(anomalous & ~spoilt).mean():.1%} of time: {called}"
    )


def watched(demand: FloatArray, limit: FloatArray, resources: list[Resource], step: int) -> tuple[FloatArray, IntArray]:
    """Whether each VM was anomalous, and its kind; arrays (time, vm)."""
    watch = Watch(resources, [floor_of(r) for r in resources], step)
    found = [watch.step(row, most, i * step) for i, (row, most) in enumerate(zip(demand, limit, strict=True))]
    return np.array([f.anomalous for f in found]), np.array([f.kind for f in found])


if __name__ == "__main__":
    main()
