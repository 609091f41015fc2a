"""One at a time, across processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until nobody else holds the file ``lock``, and hold it (flock(2)); who holds it may remove it."""
    while True:
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            try:
                still_there = os.path.samestat(os.fstat(held.fileno()), lock.stat())
            except FileNotFoundError:
                still_there = False
            if still_there:
                yield
                return
