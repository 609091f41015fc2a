"""The agent, on a machine that is a folder: what it reads, what it says, and that it does not stop."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from forestall.guest import wire
from forestall.guest.agent import Agent
from forestall.guest.looks import LONG_FIELDS, SHORT_FIELDS
from forestall.guest.meter import Source
from forestall.guest.operations import NUMBER, OPERATIONS, size_class
from forestall.guest.pace import Pace
from forestall.guest.processes import Groups, Processes
from forestall.guest.system_calls import SystemCalls, parse
from forestall.guest.wire import FrameReader, Kind, Window

TICK = 1 / os.sysconf("SC_CLK_TCK")


class Machine:
    """A machine that is a folder; numbers are changed by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.user, self.switches, self.faults, self.read, self.received = 100, 1000, 50, 8, 1000
        self.soft_net, self.soft_block = 10, 20
        (root / "sys/block/vda").mkdir(parents=True)
        self.write("proc/net/sockstat", "sockets: used 12\nTCP: inuse 3\n")
        self.write("proc/uptime", "100.5 90.0\n")
        self.write("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n")
        self.write(
            "proc/meminfo",
            "MemTotal: 1000 kB\nMemAvailable: 500 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n",
        )
        self.write("sys/devices/system/cpu/online", "0-1\n")
        self.write("sys/devices/system/cpu/present", "0-1\n")
        self.write("sys/devices/system/cpu/cpu1/online", "1\n")
        self.turn()

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def turn(self) -> None:
        """Write the files with the numbers as they are now."""
        soft = f"softirq 100 1 2 3 {self.soft_net} {self.soft_block} 0 0 0 0 0\n"
        self.write(
            "proc/stat",
            f"cpu  {self.user} 0 20 500 5 1 2 3 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\nintr 99 0 1 2\n"
            f"ctxt {self.switches}\nbtime 1\nprocesses 77\nprocs_running 3\nprocs_blocked 1\n{soft}",
        )
        self.write("proc/schedstat", "version 15\ncpu0 0 0 0 0 0 0 10 2000000000 5\ncpu1 0 0 0 0 0 0 10 0 5\n")
        self.write("proc/vmstat", f"nr_free_pages 100\npgalloc_dma 1\npgalloc_normal 2\npgfault {self.faults}\n")
        self.write(
            "proc/diskstats",
            f" 254 0 vda 1 0 {self.read} 1 1 0 4 1 0 7 1 0 0 0 0 3 0\n 254 1 vda1 9 9 999 9 9 9 9 9 9 9 9 9 9 9\n",
        )
        self.write(
            "proc/net/dev",
            f"Inter|\n face |\n lo: 9 1 0 0 0 0 0 0 9 1 0\n eth0: {self.received} 5 0 0 0 0 0 0 7 2 0 0\n",
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class Heard:
    """Takes what an agent sends."""

    def __init__(self) -> None:
        self.reader = FrameReader()
        self.frames: list[wire.Frame] = []
        self.full = False

    def __call__(self, message: bytes) -> bool:
        if not self.full:
            self.frames += self.reader.feed(message)
        return not self.full

    def windows(self, kind: Kind) -> list[dict[str, float]]:
        names = SHORT_FIELDS if kind == Kind.SHORT else LONG_FIELDS
        return [dict(zip(names, Window.unpack(f.payload).values, strict=True)) for f in self.frames if f.kind == kind]

    def replies(self) -> list[dict[str, Any]]:
        return [json.loads(f.payload) for f in self.frames if f.kind == Kind.REPLY]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def agent(machine: Machine, heard: Heard) -> Agent:
    return Agent(heard, machine.root / "hint.json", root=machine.root)


def _request(agent: Agent, **message: Any) -> None:
    agent.answer(wire.Frame(Kind.REQUEST, 1, 1, wire.as_json(message)))


def test_a_window_tells_rates_over_its_length(machine: Machine, agent: Agent, heard: Heard) -> None:
    agent.look(10.0)
    machine.user, machine.switches, machine.faults = 105, 1200, 80
    machine.read, machine.received, machine.soft_net = 16, 3000, 11
    machine.turn()
    agent.look(10.1)
    (window,) = heard.windows(Kind.SHORT)
    assert window["cpu_user_cores"] == pytest.approx(5 * TICK / 0.1)
    assert window["switches_per_s"] == pytest.approx(2000)
    assert window["faults_per_s"] == pytest.approx(300)
    assert window["disk_read_bytes_per_s"] == pytest.approx(8 * 512 / 0.1)
    assert window["net_rx_bytes_per_s"] == pytest.approx(20_000)
    assert window["running_tasks"] == 2
    assert window["free_bytes"] == 100 * os.sysconf("SC_PAGE_SIZE")
    assert math.isnan(window["major_faults_per_s"]) or window["major_faults_per_s"] == 0
    last = Window.unpack(heard.frames[-1].payload)
    assert (last.end_us, last.length_us) == (10_100_000, 100_000)
    assert dict(last.operations)[NUMBER["fault"]] == size_class(30)
    assert dict(last.operations)[NUMBER["disk-read"]] == size_class(4)


def test_a_second_is_told_as_a_whole(machine: Machine, agent: Agent, heard: Heard) -> None:
    for tenth in range(11):
        agent.look(10 + tenth / 10)
        machine.user += 1
        machine.switches += 100
        machine.turn()
    (window,) = heard.windows(Kind.LONG)
    assert len(heard.windows(Kind.SHORT)) == 10
    assert window["cpu_user_cores"] == pytest.approx(10 * TICK)
    assert window["memory_available_bytes"] == 500 * 1024
    assert window["swap_used_bytes"] == 6 * 1024
    assert window["sockets"] == 12
    assert math.isnan(window["pressure_io_full_ratio"])
    assert window["agent_memory_bytes"] > 1e6


def test_what_cannot_have_moved_is_left_alone_for_a_second_at_most(
    machine: Machine, agent: Agent, heard: Heard
) -> None:
    agent.look(10.0)
    machine.faults += 1000  # without a switch or a tick of CPU: as an emulator would not, but a test can
    machine.turn()
    for tenth in range(1, 11):
        agent.look(10 + tenth / 10)
    faults = [window["faults_per_s"] for window in heard.windows(Kind.SHORT)]
    assert faults[:-1] == [0.0] * 9
    assert faults[-1] > 0.0
    assert heard.windows(Kind.LONG)[-1]["faults_per_s"] == pytest.approx(1000, rel=0.01)


def test_a_file_that_the_kernel_gives_by_the_page_is_read_to_its_end(tmp_path: Path) -> None:
    """Every CPU, disk and interface counts, however many there are."""

    class Lines(Source):
        path = "proc/kallsyms"
        levels = ("lines",)

        def parse(self, text: bytes) -> list[float]:
            return [float(text.count(b"\n"))]

    (counted,) = Lines().read()
    assert counted > 10_000, "one page has some eighty"


def test_a_cpu_that_is_switched_on_does_not_bring_all_it_ever_waited(
    machine: Machine, agent: Agent, heard: Heard
) -> None:
    waits = {"cpu0": 1_000_000_000}

    def look(now: float) -> None:
        machine.switches += 100
        machine.turn()
        lines = [f"{cpu} 0 0 0 0 0 0 10 {wait} 5" for cpu, wait in waits.items()]
        machine.write("proc/schedstat", "version 15\n" + "\n".join(lines) + "\n")
        agent.look(now)

    look(10.0)
    waits["cpu1"] = 50_000_000_000
    look(10.1)
    waits["cpu1"] += 20_000_000
    look(10.2)
    waited = [window["runnable_wait_cores"] for window in heard.windows(Kind.SHORT)]
    assert waited == pytest.approx([0.0, 0.2])


def test_a_counter_that_goes_back_says_nothing(machine: Machine, agent: Agent, heard: Heard) -> None:
    agent.look(10.0)
    machine.user, machine.switches = 0, 2000
    machine.turn()
    agent.look(10.1)
    (window,) = heard.windows(Kind.SHORT)
    assert math.isnan(window["cpu_user_cores"])
    assert window["switches_per_s"] > 0


def test_a_machine_without_anything_to_read_is_told_of(tmp_path: Path, heard: Heard) -> None:
    agent = Agent(heard, None, root=tmp_path)
    for tenth in range(11):
        agent.look(tenth / 10)
    assert all(math.isnan(value) for window in heard.windows(Kind.SHORT) for value in window.values())
    assert len(heard.windows(Kind.LONG)) == 1


def test_files_that_are_nonsense_do_not_stop_it(machine: Machine, agent: Agent, heard: Heard) -> None:
    for nonsense in ("", "cpu  \n", "\0" * 5000, "cpu x y z\nctxt q\n"):
        for path in ("stat", "schedstat", "vmstat", "diskstats", "net/dev", "meminfo", "pressure/cpu", "net/snmp"):
            machine.write(f"proc/{path}", nonsense)
        agent.look(10.0 + len(heard.frames))
    machine.turn()
    agent.look(99.0)
    agent.look(99.1)
    assert heard.windows(Kind.SHORT)[-1]["running_tasks"] == 2


def test_after_a_silence_no_window_spans_it(machine: Machine, agent: Agent, heard: Heard) -> None:
    agent.look(10.0)
    agent.look(10.1)
    agent.rest()
    agent.look(12.0)
    agent.look(12.1)
    lengths = [Window.unpack(f.payload).length_us for f in heard.frames if f.kind == Kind.SHORT]
    assert lengths == pytest.approx([100_000, 100_000], abs=1)


def test_frames_are_numbered_also_those_that_are_lost(machine: Machine, agent: Agent, heard: Heard) -> None:
    agent.look(10.0)
    heard.full = True
    agent.look(10.1)
    agent.look(10.2)
    heard.full = False
    agent.look(10.3)
    (frame,) = heard.frames
    assert frame.sequence == 3
    assert Window.unpack(frame.payload).lost == 2


def test_requests_are_answered_and_nonsense_too(machine: Machine, agent: Agent, heard: Heard) -> None:
    _request(agent, id=1, do="ping", **{"with": "x"})
    _request(agent, id=2, do="offline", **{"with": 1})
    _request(agent, id=3, do="offline", **{"with": 0})
    _request(agent, id=4, do="explode")
    _request(agent, id=5, do="state")
    agent.answer(wire.Frame(Kind.REQUEST, 1, 1, b"[" * 20_000))
    agent.answer(wire.Frame(Kind.REQUEST, 1, 1, b"[]"))
    agent.answer(wire.Frame(Kind.REQUEST, 1, 1, b'{"id": 6, "do": "online", "with": Infinity}'))
    _request(agent, id=7, do="ping", **{"with": "x" * wire.MAX_PAYLOAD_BYTES})
    _request(agent, id=8, do="x" * 10_000)
    agent.answer(wire.Frame(99, 1, 1, b"{}"))
    first, second, third, fourth, fifth, sixth, seventh, *others = heard.replies()
    assert first == {"id": 1, "result": "x"}
    assert second["result"] == [0, 1]
    assert (machine.root / "sys/devices/system/cpu/cpu1/online").read_text() == "0"
    assert "CPU 0" in third["error"]
    assert "explode" in fourth["error"]
    assert fifth["result"]["uptime_seconds"] == 100.5
    assert "error" in sixth
    assert "error" in seventh
    assert [(other["id"], "error" in other) for other in others] == [(6, True), (7, True), (8, True)]


def test_a_hint_is_kept_whole_or_not_at_all(machine: Machine, agent: Agent) -> None:
    hint = machine.root / "hint.json"
    agent.answer(wire.Frame(Kind.HINT, 1, 1, b'{"cpu_cores": 2}'))
    agent.answer(wire.Frame(Kind.HINT, 1, 2, b'{"cpu_cores": '))
    agent.answer(wire.Frame(Kind.HINT, 1, 3, b'"' + b"x" * 9000 + b'"'))
    assert json.loads(hint.read_text()) == {"cpu_cores": 2}


def test_hello_says_what_the_numbers_are(agent: Agent, heard: Heard) -> None:
    _request(agent, id=0, do="hello")
    hello = json.loads(heard.frames[0].payload)
    assert tuple(hello["short"]) == SHORT_FIELDS
    assert tuple(hello["long"]) == LONG_FIELDS
    assert tuple(hello["operations"]) == OPERATIONS
    assert len(LONG_FIELDS) <= wire.MAX_FIELDS
    assert len(OPERATIONS) <= wire.MAX_OPERATIONS
    assert len(set(LONG_FIELDS)) == len(LONG_FIELDS)


def test_pace_saves_when_it_costs_too_much_and_indulges_again() -> None:
    pace = Pace(0.1, 0.01)
    pace.spend(0.1)
    assert (pace.scans, pace.system_calls, pace.short_seconds) == (False, True, 0.1)
    for _ in range(50):
        pace.spend(0.1)
    assert (pace.system_calls, pace.short_seconds) == (False, 1.0)
    for _ in range(200):
        pace.spend(0.001)
    assert (pace.scans, pace.system_calls, pace.short_seconds) == (True, True, 0.1)


def test_pace_does_not_make_up_for_what_was_missed() -> None:
    pace = Pace(0.1)
    assert pace.next(10.0, 10.02) == pytest.approx(10.1)
    assert pace.late == 0
    assert pace.next(10.0, 10.35) == pytest.approx(10.4)
    assert pace.late == 3


def test_sizes_are_classes_of_four() -> None:
    assert [size_class(n) for n in (0, 0.5, 1, 3, 4, 15, 16, 64)] == [0, 0, 1, 1, 2, 2, 3, 4]
    assert size_class(1e300) == 31


def test_system_calls_are_counted_by_operation() -> None:
    text = (
        b"# event histogram\n#\n\n"
        b"{ id: sys_read                      [  0] } hitcount:          2  ret:       1664\n"
        b"{ id: sys_pread64                   [ 17] } hitcount:          4  ret:       3136\n"
        b"{ id: sys_accept4                   [288] } hitcount:         12  ret:         48\n"
        b"{ id: unknown_syscall               [18446744073709551615] } hitcount:  1  ret:        169\n"
        b"{ id: sys_getpid                    [ 39] } hitcount:          9  ret:          9\n"
        b"\nTotals:\n    Hits: 409\n"
    )
    assert parse(text) == {"read": (6, 4800), "accept": (12, 48)}


def _process(root: Path, number: int, name: str, ticks: int, written: int, flags: int = 0) -> None:
    folder = root / "proc" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", "1", "1", "1", "0", "-1", str(flags), "10", "0", "2", "0", str(ticks), "0", *["0"] * 8]
    (folder / "stat").write_text(f"{number} ({name}) " + " ".join(fields))
    (folder / "io").write_text(f"rchar: 1\nread_bytes: 0\nwrite_bytes: {written}\n")


def test_the_busiest_processes_are_named(tmp_path: Path) -> None:
    _process(tmp_path, 10, "redis (x) y", 100, 0)
    _process(tmp_path, 11, "idle", 100, 0)
    _process(tmp_path, 12, "kthread", 100, 0, flags=0x00200000)
    scan = Processes(tmp_path)
    assert scan.look(1.0) == []
    _process(tmp_path, 10, "redis (x) y", 150, 4096)
    _process(tmp_path, 12, "kthread", 900, 0, flags=0x00200000)
    (row,) = scan.look(2.0)
    assert row["name"] == "redis (x) y"
    assert row["cpu_cores"] == pytest.approx(50 * TICK)
    assert row["write_bytes_per_s"] == 4096


def test_many_processes_are_looked_at_in_turn(tmp_path: Path) -> None:
    for number in range(100, 180):
        _process(tmp_path, number, f"p{number}", 1, 0)
    scan = Processes(tmp_path)
    for second in range(3):
        scan.look(float(second))
    for number in range(100, 180):
        _process(tmp_path, number, f"p{number}", number, 0)
    seen = {row["name"] for second in range(3, 6) for row in scan.look(float(second))}
    assert {"p131", "p163", "p179"} <= seen
    (tmp_path / "proc/179/stat").unlink()
    scan.look(7.0)


def test_control_groups_are_told_as_far_as_their_controllers_are_on(tmp_path: Path) -> None:
    top = tmp_path / "sys/fs/cgroup"
    service = top / "system.slice/web.service"
    service.mkdir(parents=True)
    (top / "cgroup.controllers").write_text("cpu")
    for folder in (service, service.parent):
        (folder / "cpu.stat").write_text("usage_usec 1000000\n")
    scan = Groups(tmp_path)
    scan.look(0.0)
    (service / "cpu.stat").write_text("usage_usec 1500000\n")
    (service / "memory.stat").write_text("pgfault 30\n")
    (service / "io.stat").write_text("254:0 rbytes=4096 wbytes=8192 rios=1\n")
    (row,) = scan.look(1.0)
    assert row == {
        "name": "web.service", "cpu_cores": 0.5, "faults_per_s": 30.0,
        "read_bytes_per_s": 4096.0, "write_bytes_per_s": 8192.0,
    }  # fmt: skip


def test_system_calls_of_a_pause_belong_to_no_window(tmp_path: Path) -> None:
    """The kernel counts on while nobody looks."""
    event = tmp_path / "instances/forestall-guest/events/raw_syscalls/sys_exit"

    class Kernel(SystemCalls):
        def __init__(self) -> None:
            super().__init__(tmp_path)

        def has_counted(self, calls: int) -> None:
            line = f"{{ id: sys_fsync    [ 74] }} hitcount:   {calls}  ret:   0\n"
            (event / "hist").write_text(line)

    event.mkdir(parents=True)
    (event / "hist").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", lambda *_, **__: None)
        kernel = Kernel()
    kernel.has_counted(5)
    assert kernel.look() == {}
    kernel.has_counted(7)
    assert kernel.look() == {"sync": 2.0}
    kernel.pause()
    kernel.has_counted(900)
    assert kernel.look() == {}
    kernel.has_counted(901)
    assert kernel.look() == {"sync": 1.0}
    assert "common_pid != " in (event / "trigger").read_text()
