"""The batch guest: at night it packs what the day has left behind, with xz."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from forestall.lab.guest.worker import work_off

ARCHIVE = Path("/var/tmp/archive")
SOURCES = Path("/usr/lib/python3.11")
JOB_BYTES, KEPT_ARCHIVES = 1024 * 1024, 20
FULL_RATE_PER_SECOND, QUEUE = 0.15, 20


class Packer:
    """Packs a file of some size after the other; the oldest archives are removed."""

    def __init__(self) -> None:
        ARCHIVE.mkdir(exist_ok=True)
        self.sources = sorted(SOURCES.glob("*.py"))
        self.number = 0

    def pack(self) -> None:
        """Gather a megabyte of text and pack it."""
        self.number += 1
        target = ARCHIVE / f"{self.number % KEPT_ARCHIVES}"
        with target.open("wb") as gathered:
            while gathered.tell() < JOB_BYTES:
                gathered.write(random.choice(self.sources).read_bytes())
        subprocess.run(["xz", "-6", "--force", "--quiet", str(target)], check=True)


def main() -> None:
    """Work for ever."""
    work_off(Packer().pack, FULL_RATE_PER_SECOND, QUEUE)


if __name__ == "__main__":
    main()
