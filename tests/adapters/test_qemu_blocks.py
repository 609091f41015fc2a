"""What QEMU writes of its block requests, whose they are, and where they lie on the host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from real_core_groups import wait_for

from forestall.adapters.libvirt import block_watch
from forestall.adapters.libvirt.disks import Disks, disks_of
from forestall.adapters.linux.proc import Processes
from forestall.adapters.linux.scratch_file import scratch_file
from forestall.adapters.qemu import trace_log
from forestall.adapters.qemu.disk_places import Asker, DiskPlaces, Image
from forestall.adapters.qemu.extents import Extents, extents_of
from forestall.adapters.qemu.trace_log import Traced, TraceLog, parse, tracer_of, traces_on_here
from forestall.adapters.qemu.which_disk import WhichDisk
from forestall.model.errors import HypervisorError, Unsupported
from forestall.ports.blocks import DiskFile

LINE = b"4711@1700000000.%06d:blk_co_preadv blk 0x5568a2977340 bs 0x5568a1ca4f80 offset %d bytes 4096 flags 0x8\n"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a mount")
needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def test_lines_are_read_and_others_passed_over() -> None:
    lines = (
        LINE % (500000, 843776)
        + b"qemu-system-x86_64: warning: something else\n"
        + b"4711@1700000001.000000:blk_co_pwritev blk 0x55 bs 0x56 offset 1048576 bytes 65536 flags 0x0\n"
        + b"blk_co_preadv blk 0x55 bs 0x56 offset 0 bytes 512 flags 0x0\n"
        + b"4711@1700000002.000000:blk_co_preadv blk 0x55 bs 0x56 offset 77777777777777777777 bytes 1 flags 0\n"
        + b"4711@1700000002.000000:blk_co_preadv blk 0x55 bs 0x56 off"
    )
    traced = parse(lines, now=9.0)
    assert traced.at.tolist() == [1700000000.5, 1700000001.0, 9.0]
    assert traced.backend.tolist() == [0x5568A2977340, 0x55, 0x55]
    assert traced.offset_bytes.tolist() == [843776, 1048576, 0]
    assert traced.size_bytes.tolist() == [4096, 65536, 512]
    assert traced.write.tolist() == [False, True, False]
    assert len(parse(b"", 0.0).at) == 0


@needs_root
def test_a_scratch_file_never_grows_beyond_its_bound_and_has_no_path() -> None:
    file = scratch_file("mine", 1 << 20)
    try:
        with open(f"/proc/self/fd/{file}", "wb", buffering=0) as writer:
            with suppress(OSError):
                while writer.write(bytes(1 << 16)):
                    pass
            with pytest.raises(OSError, match="No space left"):
                writer.write(bytes(1 << 16))
            assert os.fstat(file).st_blocks * 512 <= 1 << 20
        assert os.readlink(f"/proc/self/fd/{file}") == "/mine"
        assert "mine" not in Path("/proc/self/mountinfo").read_text()
    finally:
        os.close(file)


@needs_root
def test_a_trace_is_read_as_it_grows_and_gives_its_room_back() -> None:
    log = TraceLog()
    try:
        with open(f"/proc/self/fd/{log.file}", "wb", buffering=0) as qemu:  # as QEMU's fopen(..., "w")
            seen = 0
            for turn in range(8):  # twice as much as there is room for
                whole = b"".join(LINE % (k % 1000000, 4096 * (turn * 8000 + k)) for k in range(8000))
                half = len(whole) // 2
                qemu.write(whole[:half])
                first = log.take()
                qemu.write(whole[half:])
                second = log.take()
                offsets = np.concatenate([first.offset_bytes, second.offset_bytes])
                assert offsets.tolist() == [4096 * (turn * 8000 + k) for k in range(8000)]
                seen += len(offsets)
            assert seen == 64_000
            assert len(log.take().at) == 0
            assert os.fstat(log.file).st_size > trace_log.MOST_BYTES >= os.fstat(log.file).st_blocks * 512
            # Nobody reads for a while: it is full, and what comes then is lost. QEMU goes on.
            with suppress(OSError):
                while qemu.write(LINE % (0, 0)):
                    pass
            assert len(log.take().at) > 30_000
            qemu.write(b"\n" + LINE % (7, 12288))
            assert log.take().offset_bytes[-1] == 12288
    finally:
        log.close()


@needs_root
def test_who_traces_is_seen_by_the_file_that_is_open() -> None:
    assert tracer_of(os.getpid()) is None
    log = TraceLog()
    code = f"import os; os.open('/proc/{os.getpid()}/fd/{log.file}', os.O_WRONLY); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        tracer = tracer_of(child.pid)
        assert tracer is not None
        assert tracer.pid == os.getpid()
        assert tracer.is_alive
        assert child.pid not in traces_on_here()
    finally:
        log.close()
        child.communicate(b"\n")


def traced(*rows: tuple[int, int, bool]) -> Traced:
    """Requests: back end, size, whether written."""
    backend, size, write = (np.array(column) for column in zip(*rows, strict=True))
    return Traced(np.zeros(len(rows)), backend, np.zeros(len(rows), np.int64), size, write)


MIB = 1 << 20


def test_a_back_end_is_the_disk_that_counts_the_same() -> None:
    which = WhichDisk({"vda": (100, 7), "vdb": (5000, 0)})
    which.take_in(traced((1, MIB, False), (2, 3 * MIB, False), (2, MIB, True)))
    assert which.is_due(1.0)
    which.compare({"vda": (100 + 3 * MIB, 7 + MIB), "vdb": (5000 + MIB, 0)}, 1.0)
    assert which.found == {1: "vdb", 2: "vda"}
    assert not which.is_due(100.0)


def test_what_fits_two_disks_or_none_stays_open_and_is_asked_ever_more_seldom() -> None:
    which = WhichDisk({"vda": (0, 0), "vdb": (0, 0)})
    which.take_in(traced((1, MIB, False)))
    now, asked = 0.0, []
    while now < 300.0:
        if which.is_due(now):
            which.compare({"vda": (MIB, 0), "vdb": (MIB, 0)}, now)
            asked.append(now)
        now += 0.05
    assert which.found == {}
    assert 5 < len(asked) < 20
    which.compare({}, now)  # nobody answers
    which.compare({"vda": (MIB, 0)}, now)  # it alone: the other was unplugged
    assert which.found == {1: "vda"}


def test_of_one_disk_a_back_end_of_something_else_is_not_taken_for_it() -> None:
    which = WhichDisk({"vda": (0, 0)})
    which.take_in(traced((1, MIB, False), (9, 8 * MIB, False)))
    which.compare({"vda": (MIB, 0)}, 1.0)
    assert which.found == {1: "vda"}


def test_little_is_not_enough() -> None:
    which = WhichDisk({"vda": (0, 0)})
    which.take_in(traced((1, 4096, False)))
    assert not which.is_due(1.0)


def test_drives_by_how_they_are_set() -> None:
    xml = """<domain><devices>
    <disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="/a b/&lt;x&gt;.qcow2"/>
      <target dev="vda"/></disk>
    <disk type="block" device="disk"><driver type="raw" cache="writethrough"/><source dev="/dev/vg/x"/>
      <target dev="vdb"/><shareable/></disk>
    <disk type="file" device="disk"><driver type="raw" cache="none"/><source file="/c"/><target dev="vdc"/></disk>
    <disk type="file" device="cdrom"><source file="/iso"/><target dev="sda"/></disk>
    <disk type="file" device="cdrom"><target dev="sdb"/></disk>
    <disk type="network" device="disk"><source protocol="rbd" name="p/i"/><target dev="vdd"/></disk>
    <disk type="file" device="disk"><driver type="raw"/><source file="/e"><encryption format="luks"/></source>
      <target dev="vde"/></disk>
    </devices></domain>"""
    disks = disks_of(xml)
    assert disks.staged == {
        "vda": Image("/a b/<x>.qcow2", "qcow2", True),
        "vdb": Image("/dev/vg/x", "raw", False),
    }
    assert disks.others == {"vdc": "cache=none", "sda": "cdrom", "vdd": "network", "vde": "encrypted"}
    assert disks.targets == ("vda", "vdb", "vdc", "sda", "vdd", "vde")
    assert Disks().why_not() == "it has no disk"
    assert Disks({}, {"vda": "cache=none"}).why_not().endswith("page cache (vda: cache=none)")


def test_a_raw_image_is_itself() -> None:
    extents = extents_of("/x.img", "raw", True)
    known, file, offset, size = extents.locate(np.array([0, 5 << 40]), np.array([512, 4096]))
    assert known.all()
    assert (file.tolist(), offset.tolist(), size.tolist()) == ([0, 0], [0, 5 << 40], [512, 4096])
    assert extents.files == (DiskFile("/x.img", own=True),)


@needs_qemu_img
def test_an_image_over_another_lies_in_both(tmp_path: Path) -> None:
    base, top = tmp_path / "base.img", tmp_path / "top, 1.qcow2"
    content = os.urandom(4 * MIB)
    base.write_bytes(content)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, top], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 1M 64k", f"{top}"], check=True)
    extents = extents_of(str(top), "qcow2", True)
    assert extents.files == (DiskFile(str(top), own=True), DiskFile(str(base), own=False))
    wanted = np.array([0, MIB, MIB + 65536, 3 * MIB + 4096])
    known, file, offset, size = extents.locate(wanted, np.full(4, 128 << 10))
    assert known.all()
    assert file.tolist() == [1, 0, 1, 1]
    assert size[1] == 65536  # no further than its part
    for k in (0, 2, 3):
        assert offset[k] == wanted[k]
    with top.open("rb") as image:
        assert os.pread(image.fileno(), 65536, int(offset[1])) == b"\x07" * 65536
    assert not extents.locate(np.array([4 * MIB]), np.array([1]))[0].any()


@needs_qemu_img
def test_an_image_of_which_nothing_can_be_told_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.qcow2").write_bytes(b"nonsense")
    with pytest.raises(HypervisorError, match=r"broken.qcow2: qemu-img cannot tell where its blocks lie: .*format"):
        extents_of(str(tmp_path / "broken.qcow2"), "qcow2", True)


def wait_until(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_places_are_asked_for_in_the_background_and_a_failure_is_told() -> None:
    answers: list[Extents | HypervisorError] = [
        HypervisorError("no qemu-img"),
        Extents((DiskFile("/q", True),), *(np.array([value]) for value in (0, 1 << 20, 0, 4096))),
    ]

    def ask(path: str, image_format: str, alone: bool) -> Extents:
        answer = answers.pop(0)
        if isinstance(answer, HypervisorError):
            raise answer
        return answer

    files: list[DiskFile] = []
    places = DiskPlaces({"vda": Image("/q", "qcow2", True)}, Asker(ask), files)
    wait_until(lambda: places._failed)
    with pytest.raises(HypervisorError, match="no qemu-img"):
        places.look_again()
    places._failed.clear()
    places._due_at = 0.0
    wait_until(lambda: places._asked_for == 0)
    places.look_again()
    wait_until(lambda: places._extents)
    two = Traced(np.array([1.0, 2.0]), np.array([5, 6]), np.array([512, 0]), np.array([512, 9]), np.zeros(2, np.bool_))
    requests = places.locate(two, {5: "vda"})
    assert (requests.at.tolist(), requests.offset_bytes.tolist(), files) == ([1.0], [4608], [DiskFile("/q", True)])


class Monitor:
    """A VM whose monitor fails at a command of one's choice."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.fails_at = ""

    def qmp(self, handle: object, command: str, *_: object) -> str:
        words = json.loads(command)
        name = f"{words['execute']} {words.get('arguments', {}).get('name', '')}".strip()
        self.said.append(name)
        if self.fails_at == name:
            return json.dumps({"error": {"desc": "no such thing"}})
        return json.dumps({"return": {"fd": 33, "fdset-id": 2} if name == "add-fd" else {}})

    def both(self, handle: object, command: str, flags: int) -> str:
        if not command.startswith("{"):
            self.said.append(command)
            return "Permission denied" if self.fails_at == "logfile" and "fd" in command else ""
        return self.qmp(handle, command)


class Handle:
    """A VM as libvirt knows it."""

    def __init__(self) -> None:
        self.uuid = "u"
        disk = "<disk type='file' device='disk'><source file='/x'/><target dev='vda'/></disk>"
        self.xml = f"<domain><devices>{disk}</devices></domain>"

    def UUIDString(self) -> str:
        return self.uuid

    def name(self) -> str:
        return "vm"

    def XMLDesc(self) -> str:
        return self.xml

    def blockStats(self, target: str) -> tuple[int, ...]:
        return (0, 0, 0, 0, 0)


class Connected:
    def __init__(self) -> None:
        self.handle = Handle()

    def domain(self, vm_id: str) -> Handle:
        return self.handle


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    monitor = Monitor()
    libvirt_qemu = block_watch.libvirt_qemu
    monkeypatch.setattr(libvirt_qemu, "qemuMonitorCommand", monitor.both)
    monkeypatch.setattr(libvirt_qemu, "qemuMonitorCommandWithFiles", lambda *words: (monitor.qmp(*words), []))
    return monitor


@needs_root
@pytest.mark.parametrize("fails_at", ["logfile", "trace-event-set-state blk_co_pwritev"])
def test_a_watch_that_cannot_begin_leaves_nothing_behind(monitor: Monitor, fails_at: str) -> None:
    monitor.fails_at = fails_at
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Unsupported, match=r"Permission denied|no such thing"):
        block_watch.TracedDisks(Connected(), "vm", os.getpid(), Asker())  # type: ignore[arg-type]
    assert monitor.said.count("add-fd") == monitor.said.count("remove-fd") == 1
    assert "logfile /dev/null" in monitor.said or fails_at.startswith("trace")
    assert len(os.listdir("/proc/self/fd")) == before


@needs_root
def test_a_process_that_is_stopped_is_not_asked_to_trace_no_more(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run has left on is switched off at its next start, if it goes on by then."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            monkeypatch.setattr(block_watch, "traces_on_here", lambda: {process.pid: ["qemu", "-uuid", "u"]})
            connection = SimpleNamespace(
                is_local=True, handle=lambda: SimpleNamespace(listAllDomains=lambda _: [Handle()])
            )
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            assert block_watch.clear_up(connection) == {"vm": "its process is stopped"}  # type: ignore[arg-type]
            assert monitor.said == []
            process.send_signal(signal.SIGCONT)
            wait_for(lambda: not Processes().is_stopped(process.pid), "it goes on")
            assert block_watch.clear_up(connection) == {"vm": ""}  # type: ignore[arg-type]
            assert "logfile /dev/null" in monitor.said
        finally:
            process.kill()


@needs_root
def test_a_process_that_is_stopped_is_not_asked(monitor: Monitor) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            watch = block_watch.TracedDisks(Connected(), "vm", process.pid, Asker())  # type: ignore[arg-type]
            process.send_signal(signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            count = len(monitor.said)
            watch._look_again_at = 0.0
            assert watch.take().at.tolist() == []
            with pytest.raises(HypervisorError, match="its process is stopped"):
                watch.close()
            with pytest.raises(HypervisorError, match="its process is stopped"):
                block_watch.TracedDisks(Connected(), "vm", process.pid, Asker())  # type: ignore[arg-type]
            assert len(monitor.said) == count
            process.send_signal(signal.SIGCONT)
            wait_for(lambda: not Processes().is_stopped(process.pid), "it goes on")
            block_watch.TracedDisks(Connected(), "vm", process.pid, Asker()).close()  # type: ignore[arg-type]
        finally:
            process.kill()


@needs_root
def test_a_watch_is_switched_off_and_sees_when_disks_change(monitor: Monitor) -> None:
    connected = Connected()
    watch = block_watch.TracedDisks(connected, "vm", os.getpid(), Asker())  # type: ignore[arg-type]
    assert watch.take().at.tolist() == []
    watch.rest()
    assert monitor.said[-3:] == [*(f"trace-event-set-state {event}" for event in trace_log.EVENTS), "logfile /dev/null"]
    watch.resume()
    connected.handle.xml = connected.handle.xml.replace("/x", "/y")
    watch._look_again_at = 0.0
    with pytest.raises(HypervisorError, match="its disks have changed"):
        watch.take()
    connected.handle.uuid = "another"
    count = len(monitor.said)
    watch.close()  # it is another VM by now, and left alone
    assert len(monitor.said) == count
