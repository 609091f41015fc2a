"""The agent in a real guest: windows ten times a second, and nothing twice whatever is killed or stands still."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from forestall.adapters.guest_channel.channels import GuestChannels
from forestall.guest.operations import NUMBER
from forestall.guest.ports import PORT_NAME
from forestall.lab.daemon import connect, libvirt_module
from forestall.lab.guest_link import GuestLink
from forestall.lab.plan import Pace
from forestall.lab.site import Lab
from forestall.model.errors import GuestError
from forestall.ports.guest_channel import LONG_FIELDS, SHORT_FIELDS, GuestWindow
from forestall.replay.guest_trace import read_guest_trace

pytestmark = pytest.mark.guests
PATIENCE = 180.0
"""On a host whose cores are all busy an emulated guest is many times slower."""
AGENTS = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2> /dev/null | grep -q '^python3 .*/forestall-guest'"
KILL_AGENT = f"{AGENTS} && kill -9 ${{p#/proc/}}; done; true"


@pytest.fixture(scope="module")
def lab(new_lab: Lab) -> Iterator[Lab]:
    """A lab of one guest that has hardly anything to do."""
    with new_lab as lab:
        lab.up(("idle",), pace=Pace(report_seconds=5.0))
        lab.wait(PATIENCE * 2)
        yield lab


@pytest.fixture
def link(lab: Lab) -> Iterator[GuestLink]:
    with lab.link("idle") as link:
        yield link


@pytest.fixture
def channels(lab: Lab) -> Iterator[GuestChannels]:
    channels = GuestChannels()
    channels.follow({"idle": str(lab.place.profile("idle"))})
    yield channels
    channels.close()


def _until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {seconds:.0f} s"
        time.sleep(0.05)


class Ear:
    """Collects what comes of a channel."""

    def __init__(self, channels: GuestChannels) -> None:
        self.channels, self.short, self.long = channels, list[GuestWindow](), list[GuestWindow]()

    def listen(self) -> int:
        for window in self.channels.windows():
            (self.long if window.long else self.short).append(window)
        return len(self.short)

    def hear(self, count: int) -> None:
        """Wait for so many windows more."""
        enough = self.listen() + count
        _until(lambda: self.listen() >= enough, f"{count} windows")

    def operations(self) -> set[int]:
        """Kinds of what was done so far."""
        return {kind for window in self.short for kind, _ in window.operations}

    def ends(self) -> list[float]:
        return [window.at for window in self.short]


def test_a_guest_tells_what_it_does_ten_times_a_second(channels: GuestChannels, link: GuestLink) -> None:
    ear = Ear(channels)
    ear.hear(10)
    began, before = time.monotonic(), len(ear.short)
    ear.hear(40)
    rate = (len(ear.short) - before) / (time.monotonic() - began)
    assert rate > 0.3, "a busy host may stretch windows, but not that far"
    _until(lambda: channels.states()["idle"].round_trip_seconds[1] < 20, "round trips")
    state = channels.states()["idle"]
    assert state.agent_memory_bytes < 30e6
    busy = SHORT_FIELDS.index("cpu_user_cores")
    work = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; cp /usr/bin/python3 /var/tmp/x; sync"
    link.ask({"run": ["sh", "-c", work]}, PATIENCE)
    done = {NUMBER[name] for name in ("read", "write", "fault", "disk-write")}
    _until(lambda: ear.listen() and done <= ear.operations(), "what it did")
    assert max(window.values[busy] for window in ear.short) > 0.3
    _until(lambda: ear.listen() and ear.long, "a long window")
    told = ear.long[-1].values
    assert 300e6 < told[LONG_FIELDS.index("memory_total_bytes")] < 400e6
    assert np.isfinite(told).mean() > 0.9


def test_cpus_are_switched_and_hints_left(channels: GuestChannels, link: GuestLink) -> None:
    _until(lambda: channels.states()["idle"].speaking, "hello")
    assert channels.ask("idle", "offline", 1, PATIENCE) == [0]
    assert channels.ask("idle", "online", 1, PATIENCE) == [0, 1]
    with pytest.raises(GuestError, match="CPU 0"):
        channels.ask("idle", "offline", 0, PATIENCE)
    channels.tell("idle", {"cpu": {"p99": 1.5}})
    read = {"run": ["cat", "/run/forestall/hint.json"]}
    _until(lambda: "1.5" in link.ask(read)["run"]["output"], "the hint")
    assert json.loads(link.ask(read)["run"]["output"]) == {"cpu": {"p99": 1.5}}


def test_a_killed_agent_is_heard_again_and_nothing_twice(channels: GuestChannels, link: GuestLink) -> None:
    ear = Ear(channels)
    ear.hear(10)
    assert link.ask({"run": ["sh", "-c", KILL_AGENT]}, PATIENCE)["run"]["code"] == 0
    killed_at = time.time()
    _until(lambda: ear.listen() and ear.ends()[-1] > killed_at + 2, "windows of the next agent")
    assert ear.ends() == sorted(set(ear.ends()))
    # Ends are dated by the fastest message so far, so two may come near each other; but there are no more than fit.
    assert len(ear.ends()) <= (ear.ends()[-1] - ear.ends()[0]) / 0.1 + 5
    traces = link.ask({"run": ["ls", "/sys/kernel/tracing/instances"]})["run"]["output"].split()
    assert traces == ["forestall-guest"]


def test_a_host_that_dies_or_stands_still_hears_whole_frames_again(lab: Lab) -> None:
    """One that does not read for ten seconds: what did not fit into the pipe is lost, and counted by the guest."""
    heard: list[float] = []
    for _ in range(2):
        channels = GuestChannels()
        channels.follow({"idle": str(lab.place.profile("idle"))})
        ear = Ear(channels)
        ear.hear(10)
        channels.close()
        heard += ear.ends()
    assert len({round(at, 2) for at in heard}) == len(heard)
    script = (
        "import sys, time; from forestall.adapters.guest_channel.channels import GuestChannels as C\n"
        "c = C(); c.follow({'idle': sys.argv[1]})\n"
        "while True:\n"
        "    print(*[w.at for w in c.windows() if not w.long], sum(c.states()['idle'].dropped.values()), flush=True)\n"
        "    time.sleep(0.2)\n"
    )
    command = [sys.executable, "-c", script, str(lab.place.profile("idle"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        def read(count: int) -> list[float]:
            ends: list[float] = []
            while len(ends) < count:
                *more, dropped = map(float, process.stdout.readline().split())  # type: ignore[union-attr]
                assert dropped == 0
                ends += more
            return ends

        ends = read(10)
        process.send_signal(19)  # SIGSTOP
        time.sleep(10)  # the passage of time is what is tested
        process.send_signal(18)  # SIGCONT
        ends += read(120)
        process.kill()
    assert ends == sorted(set(ends))
    assert ends[-1] - ends[0] > 10


def test_windows_are_recorded_and_ports_attached_as_an_operator_would(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "windows.parquet"
    forestall = [sys.executable, "-m", "forestall", "guest"]
    ended = subprocess.run(
        [*forestall, "record", str(file), "--seconds", "4", "--connect", lab.uri], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    windows = read_guest_trace(file)
    assert {window.vm_id for window in windows} == {lab.domain("idle")}
    assert len(windows) > 5
    assert any(window.operations for window in windows)
    attach = [*forestall, "attach", lab.domain("idle"), "--connect", lab.uri]
    ended = subprocess.run(attach, capture_output=True, text=True)
    assert ended.stdout.strip().endswith("already")
    connection = connect(lab.place)
    domain = connection.lookupByName(lab.domain("idle"))
    channels = ElementTree.fromstring(domain.XMLDesc()).findall("devices/channel")
    port = next(text for text in map(ElementTree.tostring, channels) if PORT_NAME.encode() in text).decode()
    domain.detachDeviceFlags(port, libvirt_module().VIR_DOMAIN_AFFECT_LIVE)
    _until(lambda: PORT_NAME not in domain.XMLDesc(), "the port is gone")
    ended = subprocess.run(attach, capture_output=True, text=True)
    assert ended.stdout.strip().endswith("now"), ended.stderr
    assert PORT_NAME in domain.XMLDesc()
    connection.close()
