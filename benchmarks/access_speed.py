"""How many accesses a second the staging loop takes in on one core, and what it holds in memory.

    python benchmarks/access_speed.py [--accesses 100000000]

A synthetic stream of eight programs: loops over scrambled items, runs at places that never come again, popular items,
and random ones. It never repeats as a whole: most items of a long stream are new.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time

import numpy as np

from forestall.staging.loop import StagingLoop
from forestall.staging.settings import StagingSettings

PIECE, STREAMS = 1_000_000, 8


def piece(rng: np.random.Generator, loops: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Streams and numbers of a million accesses."""
    stream = rng.integers(0, STREAMS, PIECE).astype(np.int32)
    number = np.zeros(PIECE, np.int64)
    for k in range(STREAMS):
        mine = np.flatnonzero(stream == k)
        if k < 3:
            start = int(rng.integers(len(loops[k])))
            number[mine] = np.resize(np.roll(loops[k], -start), len(mine))
        elif k < 6:
            starts = rng.integers(0, 1 << 60, len(mine) // 32 + 1)
            number[mine] = (starts[:, None] + np.arange(32)).ravel()[: len(mine)]
        elif k == 6:
            number[mine] = rng.zipf(1.2, len(mine)) % 1_000_000
        else:
            number[mine] = rng.integers(0, 1 << 60, len(mine))
    return stream, number


def main() -> None:
    """Print speed and memory along the stream."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accesses", type=int, default=5_000_000)
    parser.add_argument("--cache-items", type=int, default=10_000)
    asked = parser.parse_args()
    rng = np.random.default_rng(1)
    loops = [rng.choice(1 << 62, 50_000, replace=False) for _ in range(3)]
    loop = StagingLoop(StagingSettings(asked.cache_items))
    loop.warm_up()
    spent, done = 0.0, 0
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    while done < asked.accesses:
        stream, number = piece(rng, loops)
        began = time.process_time()
        loop.take_in(stream, np.zeros(PIECE, np.int32), number)
        spent += time.process_time() - began
        done += PIECE
        if done % (10 * PIECE) == 0 or done >= asked.accesses:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(
                f"{done:,} accesses: {done / spent:,.0f} a second, the model {loop.memory_bytes / 1e6:.0f} MB, "
                f"the process {peak / 1e6:.0f} MB at most, {loop.counts}",
                flush=True,
            )


if __name__ == "__main__":
    main()
