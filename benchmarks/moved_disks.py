"""A disk of a real guest moved from slow storage to quick storage while it is read: what its reads wait for.

    python benchmarks/moved_disks.py [--mib 128] [--copy-mib-per-s 5]

Needs root, a loop device, the control groups' blkio controller of version 1, and what ``forestall lab`` needs; nothing
else should run on the machine. The disk lies on a file system that the kernel slows down for the VM to 10 MiB/s and 200
requests a second (as in ``staged_disks.py``), and is moved to one that it does not. The guest reads 4 KiB at random
places, past its page cache, 20 times a second, before, while, and after.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from staged_disks import GUEST, PATIENCE_SECONDS, slow_file_system

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.files.tier_book import FileMoveBook, FileUses
from forestall.adapters.libvirt.connection import Connection
from forestall.adapters.libvirt.storage_tiers import StorageTiers
from forestall.lab.image import obtain_image
from forestall.lab.place import DEFAULT_CACHE
from forestall.lab.plan import Pace
from forestall.lab.site import Lab
from forestall.model.errors import HypervisorError
from forestall.staging.tiers.loop import TierLoop
from forestall.staging.tiers.plan import TierSettings

MIB = 1 << 20
LIMITS = {"read_bps_device": 10 * MIB, "write_bps_device": 10 * MIB, "read_iops_device": 200, "write_iops_device": 200}
DISK = """\
<disk type="file" device="disk">
<driver name="qemu" type="raw" cache="none"/><source file="{path}"/><target dev="vdb" bus="virtio"/>
</disk>
"""
READS = """\
import json, mmap, os, random, time
disk = os.open("/dev/vdb", os.O_RDONLY | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
places, found = os.lseek(disk, 0, os.SEEK_END) // 4096, []
until = time.time() + {seconds}
while time.time() < until:
    os.lseek(disk, random.randrange(places) * 4096, os.SEEK_SET)
    began = time.perf_counter()
    os.readv(disk, [page])
    found.append((time.time(), time.perf_counter() - began))
    time.sleep(0.05)
print(json.dumps(found))
"""


def slowed(lab: Lab, device: str) -> None:
    """Have the kernel slow the device down for the guest."""
    pid = next(row["pid"] for row in lab.status() if row["guest"] == GUEST)
    lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    own = next((path for _, names, path in lines if names == "blkio"), "/")
    if own == "/":
        raise HypervisorError("the VM has no group of its own under the controller blkio of version 1")
    for name, limit in LIMITS.items():
        (Path("/sys/fs/cgroup/blkio") / own.lstrip("/") / f"blkio.throttle.{name}").write_text(f"{device} {limit}")


def reads(lab: Lab, over: threading.Event, found: list[tuple[float, float]]) -> None:
    """Have the guest read until it is over; instants by the guest, and seconds that each took."""
    with lab.link(GUEST) as link:
        while not over.is_set():
            words = ["python3", "-S", "-c", READS.format(seconds=5)]
            found += json.loads(link.ask({"run": words}, PATIENCE_SECONDS)["run"]["output"])


def moved(lab: Lab, folder: Path, slow: Path, copy_mib_per_s: float) -> dict[str, Any]:
    """Move the disk, and say what was waited for."""
    fast = folder / "fast"
    fast.mkdir()
    connection, notes = Connection(lab.uri), list[str]()
    loop = TierLoop(
        StorageTiers(connection, ((str(fast), 0.1), (str(slow), 8.0))),
        FileMoveBook(folder),
        FileUses(folder),
        TierSettings(keep_free_bytes=0),
        SystemClock().now,
        lambda _: True,
        notes.append,
        moves=False,
    )
    found: list[tuple[float, float]] = []
    with lab.link(GUEST) as link:
        ahead = float(link.ask({"run": ["date", "+%s.%N"]}, 60.0)["run"]["output"]) - time.time()
    over = threading.Event()
    reading = threading.Thread(target=reads, args=(lab, over, found))
    reading.start()
    time.sleep(20.0)
    loop.beat()
    began = time.time()
    loop.order(lab.domain(GUEST), "vdb", str(fast), int(copy_mib_per_s * MIB))
    while loop.moves(1)[0].state.is_open:
        loop.beat()
        time.sleep(0.2)
    ended = time.time()
    time.sleep(20.0)
    over.set()
    reading.join()
    connection.close()
    parts = {
        "before": [took for at, took in found if at - ahead < began],
        "while": [took for at, took in found if began <= at - ahead < ended],
        "after": [took for at, took in found if at - ahead >= ended],
    }
    return {
        "notes": notes,
        "seconds": ended - began,
        **{
            part: {
                "reads": len(took),
                "median_ms": 1e3 * statistics.median(took),
                "p99_ms": 1e3 * sorted(took)[int(0.99 * len(took))],
                "longest_ms": 1e3 * max(took),
            }
            for part, took in parts.items()
        },
    }


def main() -> None:
    """Measure, and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=128)
    parser.add_argument("--copy-mib-per-s", type=float, default=5.0)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fs-moved-", dir="/run"))
    try:
        obtain_image(DEFAULT_CACHE, lambda line: print(line, file=sys.stderr))
        with slow_file_system(folder) as (mounted, device):
            image = mounted / "disk.img"
            with image.open("wb") as file:
                for _ in range(asked.mib):
                    file.write(os.urandom(MIB))
            os.sync()
            with Lab(folder / "lab", name=f"fs-moved-{os.getpid()}") as lab:
                lab.up((GUEST,), pace=Pace(day_seconds=1e6))
                lab.wait(PATIENCE_SECONDS)
                (folder / "disk.xml").write_text(DISK.format(path=image))
                attach = ["virsh", "-q", "-c", lab.uri, "attach-device", lab.domain(GUEST), str(folder / "disk.xml")]
                subprocess.run([*attach, "--live", "--config"], check=True, capture_output=True)
                slowed(lab, device)
                print(json.dumps(vars(asked) | moved(lab, folder, mounted, asked.copy_mib_per_s), indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
