"""A program that reads blocks of a device in an order of its own, past the guest's cache, and says how long it waited.

``python3 -S -m forestall.lab.guest.reads DEVICE BLOCKS SEED PAUSE_SECONDS``
"""

from __future__ import annotations

import json
import mmap
import os
import random
import sys
import time
import zlib

BLOCK = 65536


def main(device: str, blocks: int, seed: int, pause_seconds: float) -> None:
    """Read so many blocks, the same for the same seed; seconds waited in all, the longest, and a checksum."""
    descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT)
    size = os.lseek(descriptor, 0, os.SEEK_END) // BLOCK
    buffer = mmap.mmap(-1, BLOCK)
    waits, checksum = [], 0
    for block in random.Random(seed).sample(range(size), blocks):
        began = time.perf_counter()
        os.preadv(descriptor, [buffer], block * BLOCK)
        waits.append(time.perf_counter() - began)
        checksum = zlib.crc32(buffer[:4096], checksum)
        time.sleep(pause_seconds)
    print(json.dumps({"waited_seconds": sum(waits), "longest_seconds": max(waits), "checksum": checksum}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
