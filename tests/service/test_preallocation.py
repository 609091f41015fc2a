"""Memory asked for ahead of time: until it is there, over, or will never be; and who asked is told."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from daemons import wait_until
from hook_server import Hook

from forestall.adapters.files.preallocations import FilePreallocations
from forestall.adapters.files.program_blocks import FilePrograms
from forestall.adapters.notices.sender import NoticeThread
from forestall.model.errors import StoreError, WrongUse
from forestall.service.preallocation import KEPT_SECONDS, Preallocations, State, Watcher
from forestall.staging.asked import NOT_ALLOWED, Asked, AskedView
from forestall.staging.block_asked import ProgramBlocks
from forestall.staging.ledger import Group

MIB, PAGE = 1 << 20, 4096


class Memory:
    def __init__(self) -> None:
        self.value: Any = None
        self.full = False

    def read(self) -> Any:
        return self.value

    def write(self, value: Any) -> None:
        if self.full:
            raise StoreError("the disk is full")
        self.value = json.loads(json.dumps(value))


class Rig:
    def __init__(self) -> None:
        self.store, self.sent, self.notes, self.now = (
            Memory(),
            list[tuple[str, Mapping[str, Any]]](),
            list[str](),
            1000.0,
        )
        self.all = self.anew()

    def anew(self) -> Preallocations:
        """As the next daemon finds it."""
        return Preallocations(
            self.store, self, {"page": 64 * MIB, "block": 16 * MIB}, lambda: self.now, self.notes.append
        )

    def send(self, target: str, notice: Mapping[str, Any]) -> None:
        self.sent.append((target, notice))

    def ask(self, **wanted: Any) -> str:
        return self.all.request("vm", "g", {"size_bytes": 8 * MIB, "notify": "unix:/s"} | wanted).name

    def say(
        self, name: str, staged: int = 2048, touched: int = 0, taken: int = 0, *, done: bool = True, why: str = ""
    ) -> bool:
        view = AskedView(2048, staged, touched, taken, done, why)
        return self.all.look({name: asdict(view)}, {})


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_until_it_is_there_used_and_over(rig: Rig) -> None:
    name = rig.ask(hold_seconds=20)
    assert rig.all.asked("vm") == (Asked(name, 8 * MIB, 20.0),)
    assert rig.all.asked("other") == ()
    assert not rig.say(name, 100, done=False)
    assert rig.all.of(name).state is State.PENDING
    assert not rig.say(name)
    assert (rig.all.of(name).state, rig.all.of(name).ready_at) == (State.READY, 1000.0)
    assert [(target, notice["state"], notice["name"]) for target, notice in rig.sent] == [("unix:/s", "ready", name)]
    assert len(rig.all.asked("vm")) == 1, "kept while it is held"
    rig.now += 20.0
    assert rig.say(name, touched=1024, taken=3000)
    request = rig.all.of(name)
    assert request.state is State.OVER
    assert (request.staged_bytes, request.touched_bytes, request.taken_bytes) == (8 * MIB, 4 * MIB, 3000 * PAGE)
    assert rig.all.asked("vm") == ()
    assert not rig.all.is_open
    assert len(rig.sent) == 1


def test_what_is_not_there_in_time_fails_with_the_reason(rig: Rig) -> None:
    name = rig.ask(deadline_seconds=5)
    assert not rig.say(name, 100, done=False, why="the staging area is full")
    rig.now += 5.0
    assert rig.say(name, 100, done=False, why="the staging area is full")
    assert (rig.all.of(name).state, rig.all.of(name).why) == (State.FAILED, "the staging area is full")
    assert rig.sent[0][1]["why"] == "the staging area is full"
    assert rig.notes == ["memory asked for ahead of time: not there for vm: the staging area is full"]


@pytest.mark.parametrize(
    ("refusals", "why"),
    [
        ({("page", "vm"): "its memory is no shared memfd"}, "its memory is no shared memfd"),
        ({}, "nothing is staged for the VM: is it"),
    ],
)
def test_of_which_nothing_is_heard_fails_too(rig: Rig, refusals: dict[str, str], why: str) -> None:
    name = rig.ask(deadline_seconds=5)
    assert not rig.all.look({}, refusals)
    rig.now += 6.0
    assert rig.all.look({}, refusals)
    assert rig.all.of(name).why.startswith(why)


def test_what_is_not_allowed_fails_at_once(rig: Rig) -> None:
    name = rig.ask()
    assert rig.say(name, 0, why=NOT_ALLOWED)
    assert (rig.all.of(name).state, rig.all.of(name).why) == (State.FAILED, NOT_ALLOWED)


def test_cancelled_is_cancelled_and_nobody_is_told(rig: Rig) -> None:
    name = rig.ask()
    assert rig.all.cancel(name).state is State.CANCELLED
    assert rig.all.asked("vm") == ()
    assert rig.all.cancel(name).state is State.CANCELLED
    assert not rig.say(name)
    assert rig.sent == []
    with pytest.raises(WrongUse, match="there is no request 'x', or no longer"):
        rig.all.cancel("x")


def test_what_a_program_took_is_asked_for_the_next_time_in_its_group_alone(rig: Rig) -> None:
    name = rig.ask(program="db", hold_seconds=1)
    rig.say(name)
    rig.now += 1.0
    assert rig.say(name, taken=4096)
    assert rig.all.request("vm", "g", {"program": "db"}).size_bytes == 4096 * PAGE
    with pytest.raises(WrongUse, match="nothing is known of 'db' in the trust group 'h' yet: say how much"):
        rig.all.request("vm", "h", {"program": "db"})
    rig.all.forget_group("h")
    less = rig.ask(program="db", hold_seconds=1)
    rig.say(less)
    rig.now += 1.0
    rig.say(less, taken=100)
    assert rig.anew().request("vm", "g", {"program": "db"}).size_bytes == int(0.75 * 4096 * PAGE), "believed slowly"
    rig.all.forget_group("g")
    with pytest.raises(WrongUse, match="nothing is known of 'db'"):
        rig.anew().request("vm", "g", {"program": "db"})


def test_requests_survive_the_daemon(rig: Rig) -> None:
    ready, pending = rig.ask(), rig.ask(size_bytes=MIB)
    rig.say(ready)
    rig.all = rig.anew()
    assert {asked.name for asked in rig.all.asked("vm")} == {ready, pending}
    assert rig.all.of(ready).state is State.READY
    rig.store.value = {"requests": 7}
    assert rig.anew().views() == []
    assert "are not known any more" in rig.notes[-1]


def test_a_disk_that_is_full_stops_nothing(rig: Rig) -> None:
    rig.store.full = True
    name = rig.ask()
    assert rig.all.of(name).state is State.PENDING
    assert rig.notes == ["the disk is full; requests for memory do not survive the daemon"]


def test_what_has_ended_is_known_for_an_hour(rig: Rig) -> None:
    old = rig.ask()
    rig.all.cancel(old)
    rig.now += KEPT_SECONDS - 1
    rig.ask()
    assert old in {row["name"] for row in rig.all.views()}
    rig.now += 2
    rig.ask()
    assert old not in {row["name"] for row in rig.all.views()}


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"size_bytes": None}, "how much, or for which program"),
        ({"size_bytes": 0}, "0 bytes: must be above 0 and at most 67108864"),
        ({"size_bytes": 65 * MIB}, "68157440 bytes: must be above 0"),
        ({"size_bytes": True}, "True bytes: must be"),
        ({"size_bytes": 1.5}, "1.5 bytes: must be"),
        ({"deadline_seconds": 0}, "deadline_seconds 0: must be above 0 and at most 86400"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds nan: must be"),
        ({"hold_seconds": "x"}, "hold_seconds x: must be"),
        ({"notify": "ftp://x"}, "'ftp://x' cannot be told: must begin with https://, http://, unix:/"),
        ({"notify": "https://a\nb"}, "notify: must be at most 1024 printable"),
        ({"program": "x" * 1025}, "program: must be at most 1024 printable"),
    ],
)
def test_what_cannot_be_meant_is_said(rig: Rig, wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(WrongUse, match=why):
        rig.ask(**wanted)
    assert not rig.all.is_open


def test_who_looks_looks_while_something_is_asked_for() -> None:
    looked, is_open, notes = threading.Event(), threading.Event(), list[str]()

    def look() -> None:
        if not notes:
            raise ValueError("once")
        looked.set()

    watcher = Watcher(look, is_open.is_set, notes.append)
    watcher.start()
    assert not looked.wait(0.6)
    is_open.set()
    assert looked.wait(10), "also after it could not"
    assert notes == ["requests for memory are not followed: ValueError: once"]
    watcher.close()


def test_the_file_is_a_file(tmp_path: Path) -> None:
    file = FilePreallocations(tmp_path)
    assert file.read() is None
    file.write({"a": 1})
    assert FilePreallocations(tmp_path).read() == {"a": 1}


@pytest.fixture
def sender() -> Iterator[NoticeThread]:
    notes: list[str] = []
    sender = NoticeThread(b"key", notes.append, pauses_seconds=(0.05, 0.05, 0.05))
    sender.notes = notes  # type: ignore[attr-defined]
    sender.start()
    yield sender
    sender.close()


def test_a_webhook_is_signed_and_tried_again(sender: NoticeThread) -> None:
    hook = Hook(refuse=2)
    sender.send(hook.url, {"state": "ready"})
    wait_until(lambda: hook.taken, "it is taken")
    (told, signature, body) = hook.taken[0]
    assert told == {"state": "ready"}
    assert signature == "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()
    assert hook.refused == 2
    hook.server.shutdown()


def test_who_never_answers_is_given_up_with_one_line_and_keeps_nobody_waiting(sender: NoticeThread) -> None:
    hook, nobody = Hook(refuse=0), "http://127.0.0.1:9/"
    sender.send(nobody, {"n": 1})
    sender.send("https://[", {"n": 2})
    sender.send(hook.url, {"n": 3})
    wait_until(lambda: hook.taken, "the next is told")
    notes: list[str] = sender.notes  # type: ignore[attr-defined]
    wait_until(lambda: len(notes) == 2, "both are given up")
    assert any(line.startswith(f"{nobody} was not told: ") for line in notes)
    hook.server.shutdown()


def test_an_answer_without_end_is_not_listened_to(sender: NoticeThread) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(20)
        for number in range(2):
            sender.send(f"http://127.0.0.1:{server.getsockname()[1]}/", {"n": number})
        first, _ = server.accept()
        first.recv(65_536)
        first.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nx")
        second, _ = server.accept()  # it does not wait for the rest
        heard = b""
        while b'"n":1' not in heard:
            heard += second.recv(65_536)
        second.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        first.close()
        second.close()


def test_the_end_does_not_wait_for_who_says_nothing() -> None:
    notes: list[str] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        silent = NoticeThread(b"key", notes.append)
        silent.start()
        for number in range(5):
            silent.send(f"http://127.0.0.1:{server.getsockname()[1]}/", {"n": number})
        held = server.accept()
        began = time.monotonic()
        silent.close(0.2)
        assert time.monotonic() - began < 2.0
        silent.send("http://127.0.0.1:9/", {})
    held[0].close()
    assert notes == ["http://127.0.0.1:9/ is not told: too many notices wait, or it ends"]


def test_a_socket_of_this_host_is_told_a_line(sender: NoticeThread, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        server.settimeout(20)
        sender.send(f"unix:{path}", {"state": "failed"})
        connection, _ = server.accept()
        with connection, connection.makefile() as lines:
            assert json.loads(lines.readline()) == {"state": "failed"}


def test_blocks_of_a_program_are_ready_when_they_are_there_or_nothing_is_known_yet(rig: Rig) -> None:
    made = rig.all.request("vm", "g", {"type": "block", "program": "db", "notify": "unix:/s"})
    assert rig.all.asked("vm") == (Asked(made.name, 0, 60.0, "block", "db"),)
    view = AskedView(0, 0, 0, 0, True, "it is watched", 65536)
    rig.all.look({made.name: asdict(view)}, {})
    assert (rig.all.of(made.name).state, rig.all.of(made.name).why) == (State.READY, "it is watched")
    assert rig.sent[0][1]["state"] == "ready"
    rig.now += 60.0
    rig.all.look({made.name: asdict(view)}, {})
    again = rig.all.request("vm", "g", {"type": "block", "program": "db"})
    rig.all.look({again.name: asdict(AskedView(300, 100, 0, 0, False, "", 65536))}, {})
    assert (rig.all.of(again.name).state, rig.all.of(again.name).staged_bytes) == (State.PENDING, 100 * 65536)
    rig.all.look({again.name: asdict(AskedView(300, 300, 7, 9, True, "", 65536))}, {})
    found = rig.all.of(again.name)
    assert (found.state, found.touched_bytes, found.taken_bytes) == (State.READY, 7 * 65536, 9 * 65536)
    assert rig.all.views()[-1]["kind"] == "block"


def test_blocks_of_a_file_fail_where_there_are_none(rig: Rig) -> None:
    made = rig.all.request("vm", "g", {"type": "block", "place": "/x", "size_bytes": 1 << 20, "offset_bytes": 4096})
    assert rig.all.asked("vm") == (Asked(made.name, 1 << 20, 60.0, "block", "", "/x", 4096),)
    rig.all.look({}, {("page", "vm"): "no memfd"})
    assert rig.all.of(made.name).state is State.PENDING
    rig.all.look({made.name: asdict(AskedView(0, 0, 0, 0, True, "no disk lies there", 65536))}, {})
    assert (rig.all.of(made.name).state, rig.all.of(made.name).why) == (State.FAILED, "no disk lies there")
    assert rig.notes == ["blocks asked for ahead of time: not there for vm: no disk lies there"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"type": "connection", "program": "db"}, "'connection' cannot be staged ahead, only page, block"),
        ({"type": "block"}, "how much, or for which program?"),
        ({"type": "block", "size_bytes": 4096}, "an amount of blocks needs a place"),
        ({"type": "block", "size_bytes": 32 * MIB, "place": "/x"}, "at most 16777216"),
        ({"type": "block", "size_bytes": 4096, "place": "x"}, "path from the root"),
        (
            {"type": "block", "size_bytes": 4096, "place": "/x", "program": "db"},
            "those of a program, or those of a file",
        ),
        ({"type": "block", "size_bytes": 4096, "place": "/x", "offset_bytes": -1}, "offset_bytes -1"),
        ({"size_bytes": 4096, "place": "/x"}, "a place is for blocks"),
    ],
)
def test_blocks_that_cannot_be_meant(rig: Rig, wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(WrongUse, match=why):
        rig.all.request("vm", "g", wanted)


def test_what_programs_read_is_kept_in_files(tmp_path: Path) -> None:
    programs, group = FilePrograms(tmp_path), Group("g", "1")
    assert programs.read(group, "db") is None
    blocks = ProgramBlocks().after([("/a", 3), ("/b", 1), ("/a", 4)])
    programs.write(group, "db", blocks)
    assert FilePrograms(tmp_path).read(group, "db") == blocks
    assert programs.read(Group("g", "2"), "db") is None
    (file,) = (tmp_path / "program-blocks").iterdir()
    for damaged in ('{"blocks": 1}', '{"blocks": {"paths": ["/a"], "path": [7], "number": [1], "unread": [0]}}', "[]"):
        file.write_text(damaged)
        with pytest.raises(StoreError, match="is damaged"):
            programs.read(group, "db")
