"""Pages of a process' shared memfd: populated ahead, given back untouched, and never a byte of it changed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from real_core_groups import wait_for

from forestall.adapters.linux.guest_pages import AT_ONCE, MemfdPages, region_of
from forestall.adapters.linux.other_writers import OtherWriters
from forestall.adapters.linux.stillness import still
from forestall.adapters.simulated.guest_pages import SimulatedGuestPages
from forestall.model.errors import HypervisorError, Unsupported
from forestall.ports.guest_pages import Used, UsedRange
from forestall.testing.guest_pages import GuestPagesContract

PAGES = 4096
GUEST = f"""
import mmap, os, random, signal, socket, sys, threading, time
PAGES = {PAGES}
memory = os.memfd_create("pc.ram")
os.ftruncate(memory, PAGES * 4096)
ram = mmap.mmap(memory, PAGES * 4096)

def work(seed, until):
    # Touches pages at random: writes, zeros that are written, and reads; checks what it knows of each.
    rng = random.Random(seed)
    count, known, began = 0, {{}}, time.monotonic()
    while not until.is_set():
        # New pages all the time, not all of them at once.
        fresh = len(known) < 100 * (time.monotonic() - began)
        page = rng.randrange(seed % 2, PAGES, 2) if fresh else rng.choice(list(known) or [seed % 2])
        if page in known and ram[4096 * page : 4096 * page + 8] != known[page]:
            print("LOST", page, flush=True)
            os._exit(1)
        word = rng.choice([bytes(8), rng.randbytes(8), None])
        if word is None:
            ram[4096 * page]
        else:
            ram[4096 * page : 4096 * page + 8] = word
        known[page] = ram[4096 * page : 4096 * page + 8]
        count += 1
    return count

print("ready", flush=True)
for line in sys.stdin:
    name, *words = line.split()
    numbers = [int(word) for word in words if word.isdecimal()]
    if name == "write":
        for page in range(*numbers):
            ram[4096 * page + 100] = 7
    elif name == "read":
        sum(ram[4096 * page] for page in range(*numbers))
    elif name == "sum":
        print(sum(ram[4096 * page + 100] for page in range(*numbers)))
    elif name == "work":
        until = threading.Event()
        threads = [threading.Thread(target=work, args=(seed, until)) for seed in numbers]
        for thread in threads:
            thread.start()
    elif name == "rest":
        until.set()
        for thread in threads:
            thread.join()
    elif name == "connect":
        ends = socket.socketpair()
    elif name == "answer":
        # In the handler itself: Python's own would wait for a read that was on its way into the kernel.
        signal.set_wakeup_fd(os.open(words[0], os.O_WRONLY | os.O_NONBLOCK))
        signal.signal(signal.SIGUSR1, lambda *_: None)
    print("done", flush=True)
"""


class Process:
    """A process that stands for a VM."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", GUEST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin
        assert self._process.stdout
        self._in: IO[str] = self._process.stdin
        self._out: IO[str] = self._process.stdout
        assert self._out.readline() == "ready\n"
        self.pid = self._process.pid

    def do(self, *words: object) -> list[str]:
        self._in.write(" ".join(map(str, words)) + "\n")
        self._in.flush()
        said = []
        while (line := self._out.readline()) != "done\n":
            assert line, said
            said.append(line.strip())
            assert not line.startswith("LOST"), line
        return said

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def guest() -> Iterator[Process]:
    process = Process()
    try:
        yield process
    finally:
        process.end()


@pytest.fixture
def pages(guest: Process) -> Iterator[MemfdPages]:
    pages = MemfdPages(guest.pid)
    try:
        yield pages
    finally:
        pages.close()


class Watched:
    """What watches the memory of a process."""

    def __init__(self, pid: int, address: int, size_bytes: int) -> None:
        self.of = pid, address, size_bytes
        self.found: Used | None = None
        self.lost = self.closed = False

    def used(self) -> Used | None:
        if self.lost:
            raise Unsupported("it is not watched any more")
        return self.found

    def close(self) -> None:
        self.closed = True


def test_who_watches_tells_what_is_used_and_where_nobody_does_the_marks(guest: Process) -> None:
    watched: list[Watched] = []

    def watch(pid: int, address: int, size_bytes: int) -> Watched:
        watched.append(Watched(pid, address, size_bytes))
        return watched[-1]

    region = region_of(guest.pid)
    with closing(MemfdPages(guest.pid, watch=watch)) as pages:
        (one,) = watched
        assert one.of == (guest.pid, region.address, 4096 * PAGES)
        assert pages.used() is None
        one.found = Used(12288, (UsedRange(0, 4096, 1.0), UsedRange(8192, 8192, 0.2)))
        assert pages.used() == one.found
        one.lost = True
        assert pages.used() is None, "the marks are looked at for the first time"
        guest.do("write", 0, 40)
        used = pages.used()
        assert used is not None
        assert 0 < used.used_bytes <= 40 * 4096
        assert used.ranges == ()
        one.lost = False
        assert pages.used() == one.found, "it is watched again"
    with closing(MemfdPages(guest.pid, watch=watch)):
        pass
    assert [one.closed for one in watched] == [True, True]


class TestSimulatedGuestPages(GuestPagesContract):
    @pytest.fixture
    def memory(self) -> SimulatedGuestPages:
        return SimulatedGuestPages(PAGES)

    @pytest.fixture
    def take(self, memory: SimulatedGuestPages) -> Callable[[int, int], None]:
        return lambda first, end: memory.take(range(first, end))

    @pytest.fixture
    def die(self, memory: SimulatedGuestPages) -> Callable[[], None]:
        return memory.die


class TestMemfdPages(GuestPagesContract):
    @pytest.fixture(params=["scan", "pagemap"])
    def memory(self, pages: MemfdPages, request: pytest.FixtureRequest) -> MemfdPages:
        pages._page_table._scan = request.param == "scan"
        return pages

    @pytest.fixture
    def take(self, guest: Process) -> Callable[[int, int], None]:
        return lambda first, end: guest.do("write", first, end) and None

    @pytest.fixture
    def die(self, guest: Process) -> Callable[[], None]:
        return guest.end


def test_what_is_populated_and_what_is_touched_are_told_apart(guest: Process, pages: MemfdPages) -> None:
    assert (pages.pages, pages.page_bytes) == (PAGES, 4096)
    assert not pages.populated(0, PAGES).any()
    guest.do("write", 10, 20)
    pages.populate(15, 30)
    populated, touched = pages.populated(0, PAGES), pages.touched(0, PAGES)
    assert np.flatnonzero(populated).tolist() == list(range(10, 45))
    assert np.flatnonzero(touched).tolist() == list(range(10, 20))
    assert np.flatnonzero(pages.populated(12, 5)).tolist() == [0, 1, 2, 3, 4]
    guest.do("write", 30, 32)
    assert np.flatnonzero(pages.touched(20, 40)).tolist() == [10, 11]
    assert guest.do("sum", 0, PAGES) == [str(7 * 12)]


def test_only_what_was_never_touched_is_given_back(guest: Process, pages: MemfdPages) -> None:
    guest.do("write", 0, 50)
    pages.populate(0, 3000)
    guest.do("read", 100, 110)
    guest.do("write", 200, 210)
    asked = np.arange(0, 4000)
    gone = pages.give_back(asked)
    kept = {*range(50), *range(100, 110), *range(200, 210)}
    around = {page for page in range(3000) if 80 <= page < 128}  # a read maps what is populated around it, too
    assert not kept & set(gone.tolist())
    assert set(gone.tolist()) >= set(range(3000)) - kept - around
    assert set(np.flatnonzero(pages.populated(0, PAGES)).tolist()) == set(range(3000)) - set(gone.tolist())
    assert guest.do("sum", 0, PAGES) == [str(7 * 60)]
    assert len(pages.give_back(asked)) == 0, "again: nothing is left to give back"


def test_a_touched_page_that_the_page_table_has_forgotten_is_kept(guest: Process, pages: MemfdPages) -> None:
    """A page may leave the page table (reclaimed, moved): what stands in it still tells."""
    guest.do("write", 5, 6)
    pages.populate(0, 10)
    real, pages.touched = pages.touched, lambda first, count: np.zeros(count, np.bool_)  # type: ignore[method-assign]
    gone = pages.give_back(np.arange(10))
    pages.touched = real  # type: ignore[method-assign]
    assert gone.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert guest.do("sum", 0, PAGES) == ["7"]


def test_nothing_is_given_back_unless_all_stand_still(guest: Process) -> None:
    @contextmanager
    def restless(pid: int) -> Iterator[bool]:
        yield False

    pages = MemfdPages(guest.pid, at_rest=restless)
    pages.populate(0, 100)
    assert len(pages.give_back(np.arange(100))) == 0
    assert pages.populated(0, 100).all()
    pages.close()


@pytest.mark.slow
def test_nothing_that_a_guest_can_read_ever_changes(guest: Process, pages: MemfdPages) -> None:
    """Two threads write and check at random, while everything is populated and given back again and again."""
    rng = np.random.default_rng(4)
    guest.do("work", 2, 3)
    until, given_back = time.monotonic() + 8.0, 0
    while time.monotonic() < until:
        first = int(rng.integers(0, PAGES - 600))
        pages.populate(first, 600)
        given_back += len(pages.give_back(np.arange(first, first + 600)))
    guest.do("rest")
    assert given_back > 100, "there was something to lose"


@contextmanager
def stand(pid: int) -> Iterator[None]:
    """A process stands still; on a busy host it may take several attempts."""
    for _ in range(100):
        with still(pid) as resting:
            if resting:
                yield
                return
    pytest.fail("it never came to rest")


def states(pid: int) -> set[str]:
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return {task.read_text().rpartition(")")[2].split()[0] for task in tasks}


def test_a_process_goes_on_after_it_stood_still(guest: Process) -> None:
    with stand(guest.pid):
        assert states(guest.pid) == {"t"}
        with still(guest.pid) as inner:
            assert not inner, "somebody else has it"
        assert states(guest.pid) == {"t"}
    assert guest.do("sum", 0, 1) == ["0"]
    with pytest.raises(ZeroDivisionError), stand(guest.pid):
        raise ZeroDivisionError
    assert guest.do("sum", 0, 1) == ["0"]


def test_who_was_stopped_by_somebody_else_stays_so(guest: Process) -> None:
    os.kill(guest.pid, signal.SIGSTOP)
    wait_for(lambda: states(guest.pid) == {"T"}, "it stands")
    with stand(guest.pid):
        pass
    wait_for(lambda: states(guest.pid) == {"T"}, "it stands still")
    os.kill(guest.pid, signal.SIGCONT)
    assert guest.do("sum", 0, 1) == ["0"]


def test_whoever_is_killed_leaves_nobody_standing(guest: Process) -> None:
    code = "import sys, time\nfrom forestall.adapters.linux.stillness import still\n"
    code += f"while True:\n  with still({guest.pid}) as resting:\n    if resting:\n"
    code += "      print(resting, flush=True)\n      time.sleep(60)"
    for _ in range(5):
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout
        assert other.stdout.readline() == "True\n"
        assert states(guest.pid) == {"t"}
        other.kill()
        other.wait()
        other.stdout.close()
        wait_for(lambda: not states(guest.pid) & {"t", "T"}, "it goes on")
        assert guest.do("sum", 0, 1) == ["0"]


def test_no_signal_is_lost_to_who_stands_still(guest: Process, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "answers")
    answers = os.open(tmp_path / "answers", os.O_RDONLY | os.O_NONBLOCK)
    guest.do("answer", tmp_path / "answers")
    over = threading.Event()

    def send() -> None:
        for _ in range(300):
            os.kill(guest.pid, signal.SIGUSR1)
            if not select.select([answers], [], [], 10)[0]:
                break
            answered.append(os.read(answers, 1))
            over.wait(0.002)
        over.set()

    answered: list[bytes] = []
    sender = threading.Thread(target=send)
    sender.start()
    stood = 0
    while not over.is_set():
        with still(guest.pid) as resting:
            stood += resting
    sender.join()
    os.close(answers)
    assert len(answered) == 300
    assert stood > 30


def test_who_cannot_be_staged_for_is_refused(guest: Process, pages: MemfdPages, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        with pytest.raises(Unsupported, match="its memory is no shared memfd: <memoryBacking>"):
            region_of(other.pid)
        other.kill()
    with pytest.raises(HypervisorError, match="process 999999999 of the VM is gone"):
        MemfdPages(999_999_999)
    with pytest.raises(HypervisorError, match="pages 4090 to 4099 of a VM that has 4096"):
        pages.populate(4090, 10)
    (tmp_path / "7/fd").mkdir(parents=True)
    (tmp_path / "7/fd/3").symlink_to("/dev/vhost-net")
    with pytest.raises(Unsupported, match="/dev/vhost-net writes to its memory also while it stands still"):
        OtherWriters(7, 1, tmp_path).refuse()
    (tmp_path / "7/fd/3").unlink()
    OtherWriters(7, 1, tmp_path).refuse()
    (tmp_path / "7/cmdline").write_text("qemu\0-device\0vhost-user-fs-pci,chardev=x")
    with pytest.raises(Unsupported, match="it has a vhost-user device, whose back end does not stand still with it"):
        OtherWriters(7, 1, tmp_path).refuse()
    (tmp_path / "7/cmdline").write_text("qemu")
    (tmp_path / "7/fd/4").symlink_to("anon_inode:[io_uring]")
    (tmp_path / "vmstat").write_text("pgscan_file 9\npgscan_anon 10\n")
    writers = OtherWriters(7, 1, tmp_path)
    writers.refuse()
    (tmp_path / "vmstat").write_text("pgscan_file 9\npgscan_anon 11\n")
    with pytest.raises(Unsupported, match="the host pages memory out while the VM's disks are read by the kernel"):
        writers.refuse()


def test_who_comes_to_share_the_memory_after_a_device_was_opened_is_seen(guest: Process, pages: MemfdPages) -> None:
    pages.populate(0, 100)
    guest.do("connect")
    assert len(pages.give_back(np.arange(10))) == 10, "nobody as yet"
    with sharing(guest) as other, pytest.raises(Unsupported, match=f"process {other} shares its memory"):
        pages.give_back(np.arange(100))


def test_nothing_is_given_back_when_something_is_opened_meanwhile(guest: Process) -> None:
    @contextmanager
    def opening(pid: int) -> Iterator[bool]:
        guest.do("connect")
        yield True

    pages = MemfdPages(guest.pid, at_rest=opening)
    pages.populate(0, 100)
    assert len(pages.give_back(np.arange(100))) == 0
    pages.close()


def test_a_core_dump_of_ours_has_nothing_of_a_vm(pages: MemfdPages) -> None:
    smaps = Path("/proc/self/smaps").read_text().split("\nVmFlags:")
    flags = [after.splitlines()[0] for before, after in pairwise(smaps) if "/memfd:pc.ram" in before]
    assert len(flags) == 1
    assert "dd" in flags[0].split()


def test_what_is_populated_does_not_count_as_ours(pages: MemfdPages) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[2])

    before = resident()
    pages.populate(0, 4000)
    assert resident() < before + 500


def test_both_ways_to_read_a_page_table_say_the_same(guest: Process, pages: MemfdPages) -> None:
    rng = np.random.default_rng(3)
    for first in rng.integers(0, PAGES - 20, 200).tolist():
        guest.do("write", first, first + int(rng.integers(1, 20)))
    pages.populate(0, PAGES)
    by_scan = pages.touched(7, PAGES - 7)
    scans = pages._page_table._scan
    pages._page_table._scan = False
    assert (by_scan == pages.touched(7, PAGES - 7)).all()
    assert 500 < by_scan.sum() < PAGES
    if not scans:
        pytest.skip("this kernel cannot scan")


@contextmanager
def sharing(guest: Process) -> Iterator[int]:
    """A process that has mapped the memory of a VM."""
    code = f"""
import glob, mmap, os, time
memory = next(name for name in glob.glob("/proc/{guest.pid}/fd/*") if os.readlink(name).startswith("/memfd:"))
ram = mmap.mmap(os.open(memory, os.O_RDWR), 4096)
print("here", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "here\n"
        yield other.pid
        other.kill()


def test_who_shares_the_memory_is_refused_whenever_it_comes(guest: Process, pages: MemfdPages) -> None:
    pages.populate(0, 100)
    assert len(pages.give_back(np.arange(10))) == 10
    with sharing(guest) as other:
        guest.do("connect")  # whoever is to share the memory is told of it through a descriptor
        for _ in range(2):
            with pytest.raises(Unsupported, match=f"process {other} shares its memory"):
                pages.give_back(np.arange(100))
    assert len(pages.give_back(np.arange(100))) == 90


def test_the_memory_of_devices_is_not_that_of_the_vm(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()

    def region(bases: list[tuple[str, int]], mapped: list[int]) -> int:
        kind = '"qom-type":"memory-backend-memfd"'
        objects = [f'-object\0{{{kind},"id":"{name}","size":{size << 20}}}' for name, size in bases]
        (tmp_path / "7/cmdline").write_text("\0".join(["qemu", *objects]))
        lines, at = [], 0x7F0000000000
        for inode, size in enumerate(mapped, start=5):
            lines.append(
                f"{at:x}-{at + (size << 20):x} rw-s 00000000 00:01 {inode} /memfd:memory-backend-memfd (deleted)"
            )
            at += 1 << 32
        (tmp_path / "7/maps").write_text("\n".join(lines) + "\n")
        return region_of(7, tmp_path).bytes >> 20

    assert region([("ram-node0", 384), ("memvirtiomem0", 1024)], [384, 1024]) == 384
    assert region([("ram-node0", 384), ("memvirtiomem0", 256)], [256, 384]) == 384
    assert region([("pc.ram", 512)], [512]) == 512
    assert region([], [16, 64]) == 64
    assert region([("ram-node0", 384), ("memvirtiomem0", 384)], [384, 384]) == 384


def test_what_a_process_has_is_counted(guest: Process, pages: MemfdPages) -> None:
    before = pages.resident()
    pages.populate(0, 100)
    assert pages.resident() == before, "what is staged it does not have"
    guest.do("write", 0, 150)
    assert before + 150 <= pages.resident() <= before + 170


def test_a_guest_that_dies(guest: Process, pages: MemfdPages) -> None:
    pages.populate(0, 2 * AT_ONCE)
    guest.end()
    with pytest.raises(HypervisorError):
        pages.give_back(np.arange(100))
    with pytest.raises(HypervisorError):
        pages.touched(0, 10)
