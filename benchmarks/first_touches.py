"""How much of a program's first touches staging serves: cold, again, again with differences, and after another program.

    python benchmarks/first_touches.py

Each program is a VM of its own; history is another VM of its trust group. A different second run is a copy with touches
left out at random, the order jittered by so many places (standard deviation), and foreign pages between.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from forestall.staging.memory import MemoryStaging

DATA = Path(__file__).parents[2] / "shared" / "data" / "memory"
PROGRAMS = ("sqlite", "redis", "numpy", "gcc_cc1")
CAPACITY = 256
DIFFERENCES = ((0.0, 0.0, 0.0), (0.02, 2.0, 0.01), (0.05, 4.0, 0.02), (0.05, 16.0, 0.05), (0.1, 16.0, 0.1))
FOREIGN_PAGES = 5000


def served(pages: list[int], history: list[int]) -> tuple[float, float]:
    """Share of the touches that were served, and of the staged pages that were touched, after another VM's history."""
    staging, staged = MemoryStaging(CAPACITY), set[tuple[int, int]]()
    hits = count = 0
    for vm, touched in enumerate((history, pages)):
        for page in touched:
            hits += vm * ((vm, page) in staged)
            staged.discard((vm, page))
            moves = staging.touch(vm, 0, page)
            staged -= set(moves.let_go)
            staged |= {(vm, other) for other in moves.stage}
            count += vm * len(moves.stage)
    return hits / len(pages), hits / max(count, 1)


def differing(pages: list[int], left_out: float, jitter: float, foreign: float, rng: np.random.Generator) -> list[int]:
    """A copy that is not quite the same."""
    order = np.argsort(np.arange(len(pages)) + rng.normal(0, jitter, len(pages)))
    kept = np.array(pages)[order][rng.random(len(pages)) > left_out].tolist()
    found: dict[int, None] = {}
    for page in kept:
        found[page] = None
        if rng.random() < foreign and (other := page + int(rng.integers(-FOREIGN_PAGES, FOREIGN_PAGES))) >= 0:
            found[other] = None
    return list(found)


def main() -> None:
    """Print shares served and precision, the mean of the programs and each."""
    rng = np.random.default_rng(1)
    touched = {p: pd.read_parquet(DATA / f"first_touch_{p}.parquet").page.tolist() for p in PROGRAMS}
    _tell("cold", [served(touched[p], []) for p in PROGRAMS])
    for difference in DIFFERENCES:
        again = [served(differing(touched[p], *difference, rng), touched[p]) for p in PROGRAMS]
        _tell(f"again, {difference[0]:.0%} left out, jitter {difference[1]:g}, {difference[2]:.0%} foreign", again)
    for before, after in (("redis", "gcc_cc1"), ("sqlite", "redis"), ("numpy", "sqlite")):
        _tell(f"{after} after {before}", [served(touched[after], touched[before])])


def _tell(what: str, shares: list[tuple[float, float]]) -> None:
    each = ", ".join(f"{coverage:.3f} / {precision:.3f}" for coverage, precision in shares)
    print(f"{what:52} {np.mean(shares, axis=0)[0]:.3f} / {np.mean(shares, axis=0)[1]:.3f}   ({each})")


if __name__ == "__main__":
    main()
