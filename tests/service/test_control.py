"""The control socket."""

from __future__ import annotations

import json
import socket
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from forestall.model.errors import StoreError, WrongUse
from forestall.service.control import MOST_AT_ONCE, SOCKET, ask, serving


def answer(request: Mapping[str, Any]) -> Any:
    if request.get("command") == "mistake":
        raise WrongUse("not like that")
    if request.get("command") == "fail":
        raise StoreError("the disk is full")
    return {"asked": request["command"]}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    long = tmp_path / ("a" * 120)
    long.mkdir()
    with serving(long, answer):
        yield long


def test_a_question_is_answered(folder: Path) -> None:
    for _ in range(3):
        assert ask(folder, {"command": "status"}) == {"asked": "status"}
    assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600


def test_an_error_of_ours_is_told(folder: Path) -> None:
    with pytest.raises(WrongUse, match="not like that"):
        ask(folder, {"command": "mistake"})
    with pytest.raises(StoreError, match="the disk is full"):
        ask(folder, {"command": "fail"})


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b"\xff\n", b"3\n", b"[" * 100_000 + b"\n"])
def test_nonsense_is_answered_with_an_error_and_does_no_harm(
    folder: Path, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(SOCKET)
        client.sendall(line)
        assert json.loads(client.makefile("rb").readline())["ok"] is False
    assert ask(folder, {"command": "status"}) == {"asked": "status"}


def test_nobody_listens(tmp_path: Path) -> None:
    assert ask(tmp_path, {"command": "status"}) is None
    assert ask(tmp_path / "missing", {"command": "status"}) is None
    (tmp_path / SOCKET).touch()
    assert ask(tmp_path, {"command": "status"}) is None
    with serving(tmp_path, answer):
        assert ask(tmp_path, {"command": "status"}) == {"asked": "status"}, "what is left of an earlier one is replaced"
    assert not (tmp_path / SOCKET).exists()


class Slow:
    """Answers when it is let; what takes long is ``long``."""

    def __init__(self) -> None:
        self.go, self.began, self.done = threading.Event(), threading.Semaphore(0), 0

    def __call__(self, request: Mapping[str, Any]) -> Any:
        if request["command"] in ("long", "short"):
            self.began.release()
            assert self.go.wait(20)
        self.done += 1
        return request["command"]


def test_what_takes_long_holds_up_no_other_and_there_is_not_too_much_of_it(tmp_path: Path) -> None:
    slow, heard = Slow(), list[Any]()

    def asked() -> None:
        try:
            heard.append(ask(tmp_path, {"command": "long"}))
        except StoreError as error:
            heard.append(str(error))

    with serving(tmp_path, slow, {"long"}):
        threads = [threading.Thread(target=asked) for _ in range(MOST_AT_ONCE // 2 + 2)]
        for thread in threads:
            thread.start()
        for _ in range(MOST_AT_ONCE // 2):
            assert slow.began.acquire(timeout=20)
        assert ask(tmp_path, {"command": "status"}) == "status"
        until = time.monotonic() + 20
        while len(heard) < 2 and time.monotonic() < until:  # those for whom there is no room
            time.sleep(0.01)
        slow.go.set()
        for thread in threads:
            thread.join()
    assert sorted(heard) == [*["busy: too much is being looked for already; try again soon"] * 2, *["long"] * 8]


def test_the_end_waits_for_what_is_being_answered_and_for_nothing_more(tmp_path: Path) -> None:
    slow, heard = Slow(), list[Any]()

    def asked(command: str) -> None:
        try:
            heard.append(ask(tmp_path, {"command": command}))
        except StoreError as error:
            heard.append(str(error))

    threads = [threading.Thread(target=asked, args=(command,)) for command in ("short", "waits")]
    with serving(tmp_path, slow):
        threads[0].start()
        assert slow.began.acquire(timeout=20)
        threads[1].start()
        time.sleep(0.3)
        threading.Timer(0.5, slow.go.set).start()
    assert slow.done == 1, "it has ended, and nothing goes on"
    for thread in threads:
        thread.join()
    assert sorted(heard) == ["short", "the daemon is about to end"]
