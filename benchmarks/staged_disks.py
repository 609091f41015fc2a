"""A program's cold start in a real guest from a slow disk: without, with blocks brought ahead, and asked for, in turn.

    python benchmarks/staged_disks.py [--rounds 5] [--mib-per-s 10] [--reads-per-s 200] [--only PROGRAM ...]

Needs root, a loop device, the control groups' blkio controller of version 1, and what ``forestall lab`` needs; nothing
else should run on the machine. The guest's second disk is an image on a file system that the kernel slows down for the
VM **and** for the process that brings blocks ahead, together: what is brought ahead is read from the same disk. Before
each start nothing of the image is in memory, neither the guest's nor the host's. ``asked`` is a start after a request
for the program's blocks was ready; how long that took is the lead that a VM manager needs.
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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forestall.lab.image import obtain_image
from forestall.lab.place import DEFAULT_CACHE
from forestall.lab.plan import Pace
from forestall.lab.site import Lab
from forestall.model.errors import HypervisorError

PATIENCE_SECONDS = 180.0
GROUP, GUEST = "guests", "idle"
GROUPS = Path("/sys/fs/cgroup/blkio")
SETTINGS = """\
step_seconds = 1
resources = ["cpu"]
[safety]
lease_seconds = 20
stale_seconds = 60
[staging]
memory = "off"
blocks = "auto"
"""
DISK = """\
<disk type="file" device="disk">
<driver name="qemu" type="raw" cache="writeback"/><source file="{path}"/><target dev="vdb" bus="virtio"/>
</disk>
"""
ROOT = "/run/cold"
MODULES = "asyncio,json,http.server,ssl,sqlite3,decimal,email,unittest,xml.dom,logging,multiprocessing"
PROGRAMS = {
    "python": f"chroot {ROOT} python3 -c 'import {MODULES}'",
    "postgres": f"chroot {ROOT} /usr/lib/postgresql/15/bin/postgres --version",
    "libraries": f"cat {ROOT}/usr/lib/x86_64-linux-gnu/*.so*",
}
START = "a=$(cat /sys/block/vdb/stat); s=$(date +%s.%N); {program} >/dev/null 2>&1; e=$(date +%s.%N); echo $s $e; " + (
    "echo $a; cat /sys/block/vdb/stat"
)


def run(*words: str) -> str:
    """What a command says."""
    return subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()


@contextmanager
def slow_file_system(folder: Path) -> Iterator[tuple[Path, str]]:
    """A file system on a loop device: where it is mounted, and the numbers of the device."""
    backing, mounted = folder / "backing.img", folder / "slow"
    mounted.mkdir()
    with backing.open("wb") as file:
        file.truncate(3 << 30)
    device = run("losetup", "--find", "--show", "--direct-io=on", str(backing))
    try:
        run("mkfs.ext4", "-q", device)
        run("mount", device, str(mounted))
        try:
            number = os.stat(device).st_rdev
            yield mounted, f"{os.major(number)}:{os.minor(number)}"
        finally:
            run("umount", str(mounted))
    finally:
        run("losetup", "--detach", device)
        backing.unlink()


class Rig:
    """A guest with a slow second disk, and a daemon."""

    def __init__(self, folder: Path, lab: Lab, image: Path, device: str, limits: dict[str, int]) -> None:
        self.folder, self.lab, self.image = folder, lab, image
        self.domain = lab.domain(GUEST)
        (folder / "disk.xml").write_text(DISK.format(path=image))
        run("virsh", "-q", "-c", lab.uri, "attach-device", self.domain, str(folder / "disk.xml"), "--live")
        pid = next(row["pid"] for row in lab.status() if row["guest"] == GUEST)
        lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
        own = next((path for _, names, path in lines if names == "blkio"), None)
        if own is None or own == "/":
            raise HypervisorError("the VM has no group of its own under the controller blkio of version 1")
        self.group = GROUPS / own.lstrip("/")
        for name, limit in limits.items():
            (self.group / f"blkio.throttle.{name}").write_text(f"{device} {limit}")
        (folder / "forestall.toml").write_text(
            f'connect = "{lab.uri}"\nstate_folder = "{folder}/state"\nmode = "enforce"\n{SETTINGS}'
        )
        with (folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen([*self._command("run")], stdout=log, stderr=log)
        self._until(lambda: self.ask("status")["cycles"] > 0)
        self.ask("trust-group", "create", GROUP)
        self.ask("trust-group", "add", GROUP, self.domain)
        self._in_guest(f"mkdir -p {ROOT}")

    def ask(self, *command: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(run(*self._command(*command), "--json"))

    def shadow(self, *, wanted: bool) -> None:
        """Have blocks brought ahead, out of the same slow disk, or not."""
        self.ask("trust-group", "enable-shadowing" if wanted else "disable-shadowing", GROUP)
        if wanted:
            self._until(lambda: self.domain in self.ask("trust-group", "stats")["blocks"]["vms"])
            for folder in Path("/proc").glob("[0-9]*"):
                words = (folder / "cmdline").read_bytes().split(b"\0") if (folder / "cmdline").exists() else []
                if b"staging" in words and b"blocks" in words and str(self.folder).encode() in b" ".join(words):
                    (self.group / "cgroup.procs").write_text(folder.name)
        else:
            time.sleep(3.0)

    def start(self, program: str, asked_as: str = "") -> dict[str, float]:
        """Start a program, cold; once its blocks are ready, where a name is given to ask for them by."""
        self._in_guest(f"umount {ROOT}; echo 3 > /proc/sys/vm/drop_caches")
        with self.image.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._in_guest(f"mount -t ext4 -o noatime /dev/vdb {ROOT}")
        request, lead = self._request(asked_as) if asked_as else ("", 0.0)
        instants, before, after = self._in_guest(START.format(program=program)).strip().splitlines()[-3:]
        began, ended = map(float, instants.split())
        counts = [int(a) - int(b) for a, b in zip(after.split(), before.split(), strict=True)]
        if request:
            time.sleep(1.0)
            self.ask("preallocate", "cancel", request)
        return {
            "lead_seconds": lead,
            "seconds": ended - began,
            "reads": counts[0],
            "mib": counts[2] * 512 / 2**20,
            "waited_seconds": counts[3] / 1e3,
        }

    def _request(self, program: str) -> tuple[str, float]:
        """Ask for a program's blocks: the request's name, and how long it took until they were ready."""
        began = time.monotonic()
        words = ("--type", "block", "--program", program, "--deadline", "60", "--hold", "60")
        (request,) = self.ask("preallocate", "request", self.domain, *words)
        self._until(lambda: self.ask("preallocate", "status", request["name"])[0]["state"] == "ready")
        return request["name"], time.monotonic() - began

    def counts(self) -> dict[str, int]:
        """What became of the group's reads so far."""
        view = self.ask("trust-group", "stats")["blocks"]["groups"][GROUP]
        return {name: view[name] for name in ("hits", "late", "misses", "staged", "wasted")}

    def close(self) -> None:
        """End everything but the lab."""
        self.daemon.terminate()
        self.daemon.wait(PATIENCE_SECONDS)

    def _in_guest(self, line: str) -> str:
        with self.lab.link(GUEST) as link:
            said: str = link.ask({"run": ["sh", "-c", line]}, PATIENCE_SECONDS)["run"]["output"]
        return said

    def _until(self, true: Any) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                if true():
                    return
            except (KeyError, subprocess.CalledProcessError):
                pass
            time.sleep(0.5)
        raise HypervisorError(f"waited too long: {(self.folder / 'log').read_text()[-2000:]}")

    def _command(self, *command: str) -> list[str]:
        return [sys.executable, "-m", "forestall", *command, "--config", str(self.folder / "forestall.toml")]


def measured(rig: Rig, rounds: int, only: list[str]) -> dict[str, Any]:
    """Each program in turn with and without, so many rounds, after two from which it is learned."""
    found: dict[str, Any] = {}
    for name, program in ((name, PROGRAMS[name]) for name in only or PROGRAMS):
        rig.shadow(wanted=True)
        for _ in range(2):
            rig.start(program, name)
        ways: dict[str, list[dict[str, float]]] = {"without": [], "with": [], "asked": []}
        for _ in range(rounds):
            rig.shadow(wanted=False)
            ways["without"].append(rig.start(program))
            rig.shadow(wanted=True)
            before = rig.counts()
            one = rig.start(program)
            time.sleep(1.5)
            ways["with"].append(one | {key: count - before[key] for key, count in rig.counts().items()})
            ways["asked"].append(rig.start(program, name))
            print(name, *(runs[-1] for runs in ways.values()), sep="\n  ", file=sys.stderr, flush=True)
        medians = {
            way: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for way, runs in ways.items()
        }
        found[name] = medians | {
            f"{way}_{key}_ratio": statistics.median(a[key] / b[key] for a, b in zip(runs, ways["without"], strict=True))
            for way, runs in ways.items()
            for key in ("seconds", "waited_seconds")
            if way != "without"
        }
    status = rig.ask("trust-group", "stats")["blocks"]
    return found | {"core_ratio": status["core_ratio"], "cpu_seconds": status["cpu_seconds"]}


def main() -> None:
    """Measure, and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib-per-s", type=float, default=10.0)
    parser.add_argument("--reads-per-s", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=tuple(PROGRAMS), default=[])
    asked = parser.parse_args()
    limits = {"read_bps_device": int(asked.mib_per_s * 2**20), "read_iops_device": asked.reads_per_s}
    folder = Path(tempfile.mkdtemp(prefix="fs-disks-", dir="/run"))
    try:
        image = obtain_image(DEFAULT_CACHE, lambda line: print(line, file=sys.stderr))
        # Mounted first: the lab's libvirtd, and the guests under it, see what was there when they began.
        with slow_file_system(folder) as (mounted, device):
            copy = mounted / "disk.img"
            shutil.copy(image.disk, copy)
            os.sync()
            with Lab(folder / "lab", name=f"fs-disks-{os.getpid()}") as lab:
                lab.up((GUEST,), pace=Pace(day_seconds=1e6))
                lab.wait(PATIENCE_SECONDS)
                rig = Rig(folder, lab, copy, device, limits)
                try:
                    print(json.dumps(vars(asked) | measured(rig, asked.rounds, asked.only), indent=1))
                finally:
                    rig.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
