"""The idle guest: packs some bytes now and then, so that it can be loaded by hand too."""

from __future__ import annotations

import os
import zlib

from forestall.lab.guest.worker import work_off

JOB_BYTES = 128 * 1024
FULL_RATE_PER_SECOND, QUEUE = 8.0, 50


def main() -> None:
    """Work for ever."""
    content = os.urandom(JOB_BYTES)
    work_off(lambda: zlib.compress(content), FULL_RATE_PER_SECOND, QUEUE)


if __name__ == "__main__":
    main()
