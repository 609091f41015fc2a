"""Blocks of real guests' disks: in the page cache before the read; and QEMU's trace is switched off whatever dies."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_daemon import Ask, Daemon, Held, pass_time

from forestall.adapters.qemu.trace_log import tracer_of
from forestall.lab.guest.reads import BLOCK
from forestall.lab.site import Lab
from forestall.staging.block_group import BlockGroup

pytestmark = [pytest.mark.guests, pytest.mark.slow]
GROUP, BLOCKS, READ, SEED = "guests", 2048, 300, 11
SETTINGS = """\
step_seconds = 1
resources = ["cpu"]
[safety]
lease_seconds = 20
crashes = 1000
[staging]
memory = "off"
blocks = "auto"
keep_free_bytes = 0
core_ratio_per_ten_vms = 1.0
"""
PR_SET_CHILD_SUBREAPER = 36
DISK = """\
<disk type="file" device="disk">
<driver name="qemu" type="raw" cache="writeback"/><source file="{path}"/><target dev="vdb" bus="virtio"/>
</disk>
"""


@pytest.fixture
def daemon(lab: Lab, tmp_path: Path, held: Ask, before: Held) -> Iterator[Daemon]:
    """A daemon that stages blocks for one of the guests."""
    daemon = Daemon(lab, tmp_path, settings=SETTINGS)
    daemon.start("enforce")
    daemon.until(lambda: daemon.ask("status")["cycles"] > 0, "a first cycle")
    assert daemon.ask("trust-group", "create", GROUP)
    assert daemon.ask("trust-group", "add", GROUP, lab.domain("spare"), lab.domain("database"))
    yield daemon
    if daemon.runs:
        daemon.end()


@pytest.fixture
def disk(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """The image of a second disk, plugged into a guest while it runs."""
    image, description = lab.place.folder / "second.img", tmp_path / "disk.xml"
    image.write_bytes(random.Random(0).randbytes(BLOCKS * BLOCK))
    description.write_text(DISK.format(path=image))
    virsh(lab, "attach-device", lab.domain("spare"), str(description), "--live")
    yield image
    virsh(lab, "detach-device", lab.domain("spare"), str(description), "--live")
    image.unlink()


def virsh(lab: Lab, *words: str) -> str:
    return subprocess.run(["virsh", "-q", "-c", lab.uri, *words], check=True, capture_output=True, text=True).stdout


def forget(image: Path) -> None:
    """Have the host keep nothing of a file in memory."""
    descriptor = os.open(image, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def run_program(lab: Lab, image: Path) -> dict[str, Any]:
    """A guest reads the blocks that its program always reads, and reads what is there."""
    forget(image)
    words = ["python3", "-S", "-m", "forestall.lab.guest.reads", "/dev/vdb", str(READ), str(SEED), "0.005"]
    with lab.link("spare") as link:
        found: dict[str, Any] = json.loads(link.ask({"run": words}, 90.0)["run"]["output"])
    checksum = 0
    with image.open("rb") as file:
        for block in random.Random(SEED).sample(range(BLOCKS), READ):
            checksum = zlib.crc32(os.pread(file.fileno(), 4096, block * BLOCK), checksum)
    assert found["checksum"] == checksum
    return found


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """What the staging process compiles when it runs for the first time, so that no guest waits for that."""
    BlockGroup(BLOCK, 1, 0.0).loop.warm_up()


def stats(daemon: Daemon) -> Any:
    return daemon.ask("trust-group", "stats")["blocks"]


def is_traced(pid: int) -> bool:
    """Whether QEMU has a file of ours open."""
    return tracer_of(pid) is not None


def process(lab: Lab, guest: str) -> int:
    return int(next(row["pid"] for row in lab.status() if row["guest"] == guest))


def child(daemon: Daemon) -> int:
    """The process that stages blocks for a daemon."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"blocks" in words and parent == str(daemon.process.pid):
            return int(folder.name)
    raise AssertionError("nobody stages blocks")


def test_blocks_are_there_before_they_are_read(lab: Lab, daemon: Daemon, disk: Path) -> None:
    guest = lab.domain("spare")
    assert daemon.ask("trust-group", "enable-shadowing", GROUP)
    daemon.until(lambda: stats(daemon)["vms"] == [guest], "its disks are watched")
    # Of the other one the only disk goes past the page cache.
    why = "none of its disks goes through the host's page cache (vda: cache=none)"
    assert stats(daemon)["refusals"] == {lab.domain("database"): why}
    for _ in range(5):  # on a busy host the guest may be far ahead of who stages for it
        before = stats(daemon)["groups"][GROUP]
        run_program(lab, disk)
        pass_time(1.5)
        group = stats(daemon)["groups"][GROUP]
        if (hits := group["real_hits"] - before["real_hits"]) > READ / 2:
            break
    assert hits > READ / 2, group
    assert group["precision"] > 0.5
    (row,) = daemon.ask("access", "top", "--by", "place")
    assert (row["vm_id"], row["place"], row["items"]) == (guest, str(disk), pytest.approx(READ, abs=20))

    # Killed, it leaves the trace on, into a file that is full one day; the guest does not notice.
    qemu = process(lab, "spare")
    assert is_traced(qemu)
    os.kill(child(daemon), signal.SIGKILL)
    assert is_traced(qemu)
    run_program(lab, disk)
    daemon.until(lambda: stats(daemon)["vms"] == [guest], "its disks are watched again")
    before = stats(daemon)["groups"][GROUP]["real_hits"]
    run_program(lab, disk)
    pass_time(1.5)
    assert stats(daemon)["groups"][GROUP]["real_hits"] - before > READ / 4  # it knows from the log what comes

    # Left alone, and given free, a VM is not traced; nor when the daemon has ended.
    daemon.ask("restore", guest)
    daemon.until(lambda: not is_traced(qemu), "it is not traced")
    daemon.ask("restore", "--resume", guest)
    daemon.until(lambda: is_traced(qemu), "it is traced")
    daemon.end()
    assert not is_traced(qemu)
    assert "blk_co_preadv : state 0" in virsh(lab, "qemu-monitor-command", guest, "--hmp", "info trace-events")


@pytest.fixture
def unburied() -> Iterator[None]:
    """What the daemon leaves behind falls to this process, which takes no note of its end, as in many containers."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.mark.usefixtures("unburied")
def test_a_trace_that_was_left_on_is_switched_off_by_restoring(lab: Lab, daemon: Daemon, disk: Path) -> None:
    qemu = process(lab, "spare")
    assert daemon.ask("trust-group", "enable-shadowing", GROUP)
    daemon.until(lambda: is_traced(qemu), "it is traced")
    staging = child(daemon)
    os.kill(daemon.process.pid, signal.SIGSTOP)  # so that it starts no other
    os.kill(staging, signal.SIGKILL)
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    assert is_traced(qemu)
    daemon.ask("restore")
    os.waitpid(staging, 0)
    assert not is_traced(qemu)
