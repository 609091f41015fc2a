"""How long a plan of paths takes on a large network: a fat tree with 128 hosts and 1,000 pairs that send.

    python benchmarks/paths.py [--scenarios 12]

Traffic of pairs is lognormal, and changes from interval to interval; the worst link is used by a half or so.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from forestall.fabric.network import Network
from forestall.fabric.paths import paths_of
from forestall.fabric.planner import PlannerSettings, TrafficPlanner

GIGABIT = 125e6


def fat_tree(k: int) -> Network:
    """The network of Al-Fares, Loukissas and Vahdat (2008): k pods, k/2 edge and k/2 aggregation switches in each."""
    half = k // 2
    cores = [f"c{i}_{j}" for i in range(half) for j in range(half)]
    cables: list[tuple[str, str]] = []
    for pod in range(k):
        for i in range(half):
            cables += [(f"e{pod}_{i}", f"a{pod}_{j}") for j in range(half)]
            cables += [(f"a{pod}_{i}", f"c{i}_{j}") for j in range(half)]
            cables += [(f"h{pod}_{i}_{j}", f"e{pod}_{i}") for j in range(half)]
    nodes = dict.fromkeys([*cores, *(node for cable in cables for node in cable)])
    return Network.of(nodes, [(*cable, GIGABIT) for cable in cables])


def main() -> None:
    """Plan for some intervals, and say how long each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--intervals", type=int, default=30)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    network = fat_tree(8)
    hosts = [node for node, name in enumerate(network.nodes) if name.startswith("h")]
    pairs = sorted({(int(a), int(b)) for a, b in rng.choice(hosts, (3 * options.pairs, 2)) if a != b})
    pairs = [pairs[k] for k in sorted(rng.choice(len(pairs), options.pairs, replace=False))]
    began = time.perf_counter()
    paths = paths_of(network, pairs)
    print(f"{len(paths.pair)} candidate paths in {time.perf_counter() - began:.1f} s")
    planner = TrafficPlanner(paths, PlannerSettings(scenarios=options.scenarios))
    usual = rng.lognormal(0.0, 1.0, len(pairs))
    usual *= 0.4 / paths.utilisation(paths.equal, usual).max()
    took = []
    for _ in range(options.intervals):
        traffic = usual * rng.lognormal(0.0, 0.5, len(pairs))
        began = time.perf_counter()
        planner.decide(traffic)
        took.append(time.perf_counter() - began)
    print(f"{len(network)} links, {len(pairs)} pairs, {options.scenarios} matrices: a plan takes", end=" ")
    print(f"{np.median(took):.2f} s (median), {max(took):.2f} s at most")


if __name__ == "__main__":
    main()
