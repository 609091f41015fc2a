"""A program that takes memory page by page and says what each first touch cost.

``python3 -S -m forestall.lab.guest.touches MIB``
"""

from __future__ import annotations

import json
import mmap
import sys
import time
from itertools import pairwise

PAGE = 4096
QUANTILES = (0.5, 0.9, 0.99)


def main(size_bytes: int) -> None:
    """Touch every page once; seconds of all together, and microseconds of a touch: mean and quantiles."""
    memory = mmap.mmap(-1, size_bytes)
    clock, instants = time.perf_counter, [0.0] * (size_bytes // PAGE + 1)
    instants[0] = clock()
    for page in range(size_bytes // PAGE):
        memory[page * PAGE] = 1
        instants[page + 1] = clock()
    took = sorted(after - before for before, after in pairwise(instants))
    found = {f"p{quantile * 100:g}_us": 1e6 * took[int(quantile * len(took))] for quantile in QUANTILES}
    print(json.dumps({"seconds": sum(took), "mean_us": 1e6 * sum(took) / len(took), **found}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) << 20)
