"""How long the fabric loop takes on a k=8 fat tree: 80 switches, 128 hosts, 1,000 pairs.

    python benchmarks/fabric.py

Prints the first look at the network, and a beat whose traffic is another one: what was sent is read, ways are planned,
rules are written and compared; and what a link that dies costs. On computed switches, so without their own time; how
long a real one takes for a thousand changes is told by ``benchmarks/flow_changes.py``.
"""

from __future__ import annotations

import os
import statistics
import time
from itertools import permutations

import numpy as np

from forestall.fabric.driver import FabricDriver
from forestall.fabric.laying import DESTINATION
from forestall.fabric.planner import PlannerSettings
from forestall.fabric.rules import pair_of
from forestall.fabric.settings import FabricSettings
from forestall.ports.fabric import Cable, FlowCount, Interface, Place, PortCount
from forestall.service.fabric import look_for_garbage_rarely
from forestall.testing.fabric import MemoryBook, SimulatedFabric

K, PAIRS, BEATS = 8, 1_000, 12
RATE = 1.25e9


def fat_tree(k: int) -> tuple[list[Cable], list[Interface]]:
    """A fat tree of k pods (Al-Fares, Loukissas and Vahdat, SIGCOMM 2008)."""
    half = k // 2
    cables, interfaces = [], []
    for pod in range(k):
        for edge in range(half):
            one = 1_000 + pod * half + edge
            for host in range(half):
                address = f"52:54:00:{pod:02x}:{edge:02x}:{host:02x}"
                interfaces.append(Interface(address, f"vm-{pod}-{edge}-{host}", Place(one, 100 + host)))
            middles = range(half)
            cables += [Cable(Place(one, 1 + m), Place(2_000 + pod * half + m, 1 + edge)) for m in middles]
        for middle in range(half):
            one = 2_000 + pod * half + middle
            cores = range(half)
            cables += [Cable(Place(one, 50 + c), Place(3_000 + middle * half + c, 1 + pod)) for c in cores]
    return cables, interfaces


def main() -> None:
    """Measure."""
    look_for_garbage_rarely()
    cables, interfaces = fat_tree(K)
    fabric = SimulatedFabric(cables, interfaces)
    at = [0.0]
    driver = FabricDriver(
        fabric,
        FabricSettings(link_bytes_per_s=RATE, queues=False, planner=PlannerSettings.of(10.0, whole=True)),
        MemoryBook(),
        lambda: at[0],
        lambda: at[0],
        lambda seconds: None,
        lambda peaks, begins: None,
        lambda vm_ids: {},
        print,
    )
    began = time.perf_counter()
    plan = driver.look()
    print(f"{os.cpu_count()} cores; first look: {time.perf_counter() - began:.2f} s, {len(plan)} rules")
    rng = np.random.default_rng(1)
    pairs = [(a, b) for a, b in permutations(interfaces, 2) if a.place.switch != b.place.switch]
    chosen = [pairs[k] for k in rng.choice(len(pairs), PAIRS, replace=False)]
    rate = rng.pareto(1.5, PAIRS) * 2e7
    took, told = [], []
    for _beat in range(BEATS):
        at[0] += 10.0
        rate *= rng.lognormal(0.0, 0.3, PAIRS)
        for (source, target), bytes_per_s in zip(chosen, rate.tolist(), strict=True):
            send(fabric, source, target, int(10 * bytes_per_s))
        began = time.perf_counter()
        plan = driver.beat()
        took.append(time.perf_counter() - began)
        told.append(len(plan))
    print(f"beats: median {statistics.median(took[2:]):.2f} s, longest {max(took):.2f} s; changes {told}")
    fabric.down = {cables[-1]}
    began = time.perf_counter()
    plan = driver.look()
    print(f"a link dies: {time.perf_counter() - began:.2f} s, {len(plan)} changes")


def send(fabric: SimulatedFabric, source: Interface, target: Interface, count: int) -> None:
    """Let counters grow."""
    for place, what in ((source.place, "received_bytes"), (target.place, "sent_bytes")):
        before = fabric.ports.get(place, PortCount(0, 0, 0, 0, 0))
        fabric.ports[place] = before._replace(**{what: getattr(before, what) + count})
    switch = source.place.switch
    for flow in fabric.told[switch].flows.values():
        if flow.table == DESTINATION and pair_of(flow.match) == (source.address, target.address):
            before_flow = fabric.counts.get((switch, flow), FlowCount(0, 0))
            fabric.counts[switch, flow] = FlowCount(0, before_flow.bytes + count)


if __name__ == "__main__":
    main()
