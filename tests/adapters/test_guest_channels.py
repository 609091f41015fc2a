"""Channels to real agents over real sockets: both ways, and whatever dies comes back."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from socket_agents import SocketAgent

from forestall.adapters.guest_channel.channels import GuestChannels
from forestall.adapters.guest_channel.inbox import Inbox, Message
from forestall.guest.wire import Kind, encode
from forestall.model.errors import GuestError
from forestall.ports.guest_channel import SHORT_FIELDS, GuestWindow

PATIENCE = 20.0


@pytest.fixture
def channels() -> Iterator[GuestChannels]:
    channels = GuestChannels()
    yield channels
    channels.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "guest channels"]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root that a test may write to, with the real /proc in it."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "proc").symlink_to("/proc")
    cpus = root / "sys/devices/system/cpu"
    (cpus / "cpu1").mkdir(parents=True)
    (cpus / "online").write_text("0-1\n")
    (cpus / "cpu1/online").write_text("1\n")
    return root


@pytest.fixture
def agent(tmp_path: Path, machine: Path) -> Iterator[SocketAgent]:
    agent = SocketAgent(tmp_path / "a.sock", machine)
    yield agent
    agent.close()


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {PATIENCE:.0f} s"
        time.sleep(0.02)


def _collected(channels: GuestChannels, count: int) -> list[GuestWindow]:
    """So many short windows."""
    windows: list[GuestWindow] = []

    def enough() -> bool:
        windows.extend(w for w in channels.windows() if not w.long)
        return len(windows) >= count

    _until(enough, f"{count} windows")
    return windows


def test_profiles_come_up_and_requests_go_down(channels: GuestChannels, agent: SocketAgent, machine: Path) -> None:
    channels.follow({"a": str(agent.path)})
    windows = _collected(channels, 10)
    assert {w.vm_id for w in windows} == {"a"}
    assert all(0.01 < w.seconds < 5 and abs(w.at - time.time()) < 60 for w in windows)
    ends = [w.at for w in windows]
    assert ends == sorted(set(ends))
    place = SHORT_FIELDS.index("switches_per_s")
    assert max(w.values[place] for w in windows) > 0
    assert channels.ask("a", "ping", {"x": 1}) == {"x": 1}
    assert channels.ask("a", "offline", 1) == [0, 1]
    assert (machine / "sys/devices/system/cpu/cpu1/online").read_text() == "0"
    channels.tell("a", {"cpu_cores": 2})
    hint = machine / "hint.json"
    _until(lambda: hint.exists() and json.loads(hint.read_text()) == {"cpu_cores": 2}, "the hint")
    _until(lambda: not math.isnan(channels.states()["a"].round_trip_seconds[0]), "a round trip")
    state = channels.states()["a"]
    assert state.speaking
    assert state.windows_per_s > 0
    assert 0 < state.round_trip_seconds[0] <= state.round_trip_seconds[1] < 5


def test_a_refusal_is_one_clear_line(channels: GuestChannels, agent: SocketAgent) -> None:
    with pytest.raises(GuestError, match="a: has no channel"):
        channels.ask("a", "ping")
    channels.follow({"a": str(agent.path)})
    _until(lambda: channels.states()["a"].speaking, "hello")
    with pytest.raises(GuestError, match="a: refused: OSError: CPU 0 cannot be switched"):
        channels.ask("a", "offline", 0)


def test_a_guest_whose_agent_is_killed_is_followed_again(channels: GuestChannels, agent: SocketAgent) -> None:
    channels.follow({"a": str(agent.path)})
    before = _collected(channels, 5)
    agent.hang_up()
    after = _collected(channels, 5)
    ends = [w.at for w in [*before, *after]]
    assert ends == sorted(set(ends))
    assert "replayed" not in channels.states()["a"].dropped


def test_a_host_that_starts_again_hears_each_window_once(agent: SocketAgent) -> None:
    heard: list[GuestWindow] = []
    for _ in range(3):
        channels = GuestChannels()
        channels.follow({"a": str(agent.path)})
        heard += _collected(channels, 5)
        channels.close()
    ends = [round(w.at, 3) for w in heard]
    assert len(set(ends)) == len(ends)


def test_a_hint_waits_for_an_agent(channels: GuestChannels, tmp_path: Path, machine: Path) -> None:
    path = tmp_path / "late.sock"
    channels.follow({"a": str(path)})
    channels.tell("a", {"net": 1})
    agent = SocketAgent(path, machine)
    _until(lambda: (machine / "hint.json").exists(), "the hint")
    agent.close()


def test_a_vm_that_is_gone_is_not_followed_any_more(
    channels: GuestChannels, agent: SocketAgent, tmp_path: Path, machine: Path
) -> None:
    other = SocketAgent(tmp_path / "b.sock", machine)
    channels.follow({"a": str(agent.path), "b": str(other.path)})
    _until(lambda: all(state.speaking for state in channels.states().values()), "both")
    channels.follow({"b": str(other.path)})
    assert list(channels.states()) == ["b"]
    with pytest.raises(GuestError, match="a: has no channel"):
        channels.ask("a", "ping")
    assert channels.ask("b", "ping", 1) == 1
    other.close()


def test_silence_and_hanging_up_are_errors_for_who_waits(channels: GuestChannels, tmp_path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "mute.sock"))
    server.listen(1)
    channels.follow({"mute": str(tmp_path / "mute.sock")})
    connection, _ = server.accept()
    with pytest.raises(GuestError, match="mute: no agent speaks there"):
        channels.ask("mute", "ping")
    hello = {"agent": 1, "short": [], "long": [], "operations": []}
    connection.sendall(encode(Kind.HELLO, 1, 1, json.dumps(hello).encode()))
    _until(lambda: channels.states()["mute"].speaking, "hello")
    with pytest.raises(GuestError, match="no answer"):
        channels.ask("mute", "ping", patience_seconds=0.2)
    threading.Timer(0.3, connection.close).start()
    with pytest.raises(GuestError, match="mute: the agent hung up"):
        channels.ask("mute", "ping")
    server.close()


def test_a_defect_does_not_end_a_channel(
    channels: GuestChannels, agent: SocketAgent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sound, troubles = Inbox.feed, iter([ZeroDivisionError("a defect")])

    def broken(inbox: Inbox, chunk: bytes, now: float) -> list[Message]:
        if (trouble := next(troubles, None)) is not None:
            raise trouble
        return sound(inbox, chunk, now)

    monkeypatch.setattr(Inbox, "feed", broken)
    channels.follow({"a": str(agent.path)})
    _collected(channels, 3)
    assert "the channel to a begins anew" in caplog.text


def test_a_guest_that_sends_nonsense_without_end_harms_nobody(
    channels: GuestChannels, agent: SocketAgent, tmp_path: Path
) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "loud.sock"))
    server.listen(1)
    stop = threading.Event()

    def shout() -> None:
        connection, _ = server.accept()
        nonsense = encode(Kind.HELLO, 1, 1, bytes(30_000))[:20] * 500 + os.urandom(5000)
        with connection:
            while not stop.is_set():
                try:
                    connection.sendall(nonsense)
                except OSError:
                    return

    shouting = threading.Thread(target=shout, daemon=True)
    shouting.start()
    channels.follow({"loud": str(tmp_path / "loud.sock"), "a": str(agent.path)})
    _until(lambda: sum(channels.states()["loud"].dropped.values()) > 20, "nonsense")
    used, began = time.process_time(), time.monotonic()
    _collected(channels, 40)
    assert (time.process_time() - used) / (time.monotonic() - began) < 0.9
    state = channels.states()["loud"]
    assert not state.speaking
    assert set(state.dropped) <= {"bytes", "version", "oversized", "checksum"}
    assert channels.ask("a", "ping", 3) == 3
    stop.set()
    channels.follow({})
    server.close()
