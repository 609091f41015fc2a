"""Disks of real guests are moved while they are written, and whatever dies, all that was written is there."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_daemon import PATIENCE_SECONDS, Daemon

from forestall.lab.site import Lab

pytestmark = [pytest.mark.guests, pytest.mark.slow]
MIB = 1 << 20
DISK_BYTES = 16 * MIB
GUEST = "spare"
SETTINGS = """\
step_seconds = 1
resources = ["cpu"]
[safety]
lease_seconds = 20
crashes = 1000
[staging]
memory = "off"
[guests]
channel = "off"
[applications]
traffic = "off"
[tiers]
names = ["{fast}", "{slow}"]
request_ms = [0.1, 8.0]
keep_free_bytes = 0
"""
DISK = """\
<disk type="file" device="disk">
<driver name="qemu" type="raw" cache="none"/><source file="{path}"/><target dev="vdb" bus="virtio"/>
</disk>
"""


class Disk:
    """A second disk of a guest, and the folders that it is moved between."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.vm = lab, lab.domain(GUEST)
        self.fast, self.slow = (lab.place.folder / name for name in ("fast", "slow"))
        for folder in (self.fast, self.slow):
            folder.mkdir(exist_ok=True)
        self.old, self.new = self.slow / "second.img", self.fast / "second.img"
        self.old.write_bytes(random.Random(0).randbytes(DISK_BYTES))

    def virsh(self, *words: str) -> str:
        command = ["virsh", "-q", "-c", self.lab.uri, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def paths(self) -> tuple[str, str]:
        """Image of the running guest, and of its definition."""
        found = []
        for options in ((), ("--inactive",)):
            lines = [line.split() for line in self.virsh("domblklist", self.vm, *options).splitlines()]
            found.append(next(words[1] for words in lines if words[0] == "vdb"))
        return found[0], found[1]

    def shell(self, line: str) -> str:
        with self.lab.link(GUEST) as link:
            found = link.ask({"run": ["sh", "-c", line]}, PATIENCE_SECONDS)["run"]
        assert found["code"] == 0, found
        return str(found["output"])

    def write(self, times: int) -> None:
        """Have the guest write all over its disk."""
        self.shell(
            f"i=0; while [ $i -lt {times} ]; do i=$((i+1)); dd if=/dev/urandom of=/dev/vdb bs=64k count=4"
            f" seek=$((i * 37 % {DISK_BYTES // (64 << 10) - 4})) conv=notrunc,fsync 2>/dev/null || exit 1; done"
        )

    def holds_what_the_guest_believes(self, image: Path) -> bool:
        seen = self.shell("blockdev --flushbufs /dev/vdb; md5sum /dev/vdb").split()[0]
        return seen == hashlib.md5(image.read_bytes()).hexdigest()


@pytest.fixture
def disk(lab: Lab, tmp_path: Path) -> Iterator[Disk]:
    disk, description = Disk(lab), tmp_path / "disk.xml"
    description.write_text(DISK.format(path=disk.old))
    disk.virsh("attach-device", disk.vm, str(description), "--live", "--config")
    disk.shell("until test -b /dev/vdb; do sleep 0.2; done")
    yield disk
    if disk.virsh("blockjob", disk.vm, "vdb"):  # after a test that failed
        disk.virsh("blockjob", disk.vm, "vdb", "--abort")
    disk.virsh("detach-disk", disk.vm, "vdb", "--live", "--config")
    for path in (disk.old, disk.new):
        path.unlink(missing_ok=True)


@pytest.fixture
def daemon(lab: Lab, tmp_path: Path, disk: Disk) -> Iterator[Daemon]:
    daemon = Daemon(lab, tmp_path, settings=SETTINGS.format(fast=disk.fast, slow=disk.slow))
    started(daemon)
    yield daemon
    if daemon.runs:
        daemon.end()


def started(daemon: Daemon) -> None:
    daemon.start("advise")
    daemon.until(lambda: daemon.ask("tiers", "list")["disks"], "it knows the disks")


def order(daemon: Daemon, disk: Disk, mib_per_s: int) -> None:
    done = daemon.call("tiers", "move", disk.vm, "vdb", str(disk.fast), "--mib-per-s", str(mib_per_s))
    assert done.returncode == 0, done.stderr


def last(daemon: Daemon) -> Any:
    return daemon.ask("tiers", "moves")[-1]


def shown(daemon: Daemon) -> Any:
    return [row for row in daemon.ask("tiers", "list")["disks"] if row["target"] == "vdb"][-1]  # or it is not there yet


def test_a_disk_moves_while_it_is_written(daemon: Daemon, disk: Disk) -> None:
    writing = threading.Thread(target=disk.write, args=(40,))
    writing.start()
    order(daemon, disk, 8)
    daemon.until(lambda: last(daemon)["state"] == "done", "it is moved")
    writing.join()
    disk.write(5)
    assert disk.paths() == (str(disk.new), str(disk.new))
    assert not disk.old.exists()
    assert disk.holds_what_the_guest_believes(disk.new)
    daemon.until(lambda: shown(daemon)["tier"] == str(disk.fast), "that is shown")
    assert shown(daemon)["why"] == "is left as it is"
    refused = daemon.call("tiers", "move", disk.vm, "vdb", str(disk.fast))
    assert (refused.returncode, "lies on" in refused.stderr) == (2, True)

    # Started anew, it is there.
    disk.virsh("destroy", disk.vm)
    disk.virsh("start", disk.vm)
    disk.lab.wait(PATIENCE_SECONDS)
    assert disk.paths()[0] == str(disk.new)
    assert disk.holds_what_the_guest_believes(disk.new)


def test_a_daemon_that_is_killed_goes_on_where_it_was(daemon: Daemon, disk: Disk) -> None:
    order(daemon, disk, 3)
    daemon.end(signal.SIGKILL)
    assert "Bandwidth limit" in disk.virsh("blockjob", disk.vm, "vdb")
    disk.write(8)
    started(daemon)
    daemon.until(lambda: last(daemon)["state"] == "done", "it is moved")
    assert disk.paths() == (str(disk.new), str(disk.new))
    assert disk.holds_what_the_guest_believes(disk.new)


def test_what_is_copied_is_given_up_when_it_is_to_be(daemon: Daemon, disk: Disk) -> None:
    def is_as_before() -> bool:
        return disk.paths() == (str(disk.old), str(disk.old)) and not disk.new.exists()

    order(daemon, disk, 1)
    assert daemon.call("tiers", "cancel").returncode == 0
    assert is_as_before()
    order(daemon, disk, 1)
    daemon.end()
    assert is_as_before()
    started(daemon)
    assert [move["said"] for move in daemon.ask("tiers", "moves")] == ["by order", "Forestall was ended"]
    order(daemon, disk, 1)
    daemon.end(signal.SIGKILL)
    said = daemon.call("restore")
    assert "was not moved" in said.stderr
    assert is_as_before()
    disk.write(3)

    # A guest that is killed meanwhile keeps its disk.
    started(daemon)
    order(daemon, disk, 1)
    qemu = next(row["pid"] for row in disk.lab.status() if row["guest"] == GUEST)
    os.kill(qemu, signal.SIGKILL)
    daemon.until(lambda: last(daemon)["state"] == "failed", "it is given up")
    assert not disk.new.exists()
    disk.virsh("start", disk.vm)
    disk.lab.wait(PATIENCE_SECONDS)
    assert disk.paths() == (str(disk.old), str(disk.old))
    assert disk.holds_what_the_guest_believes(disk.old)
