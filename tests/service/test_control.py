"""The control socket."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from forestall.model.errors import StoreError, WrongUse
from forestall.service.control import SOCKET, ask, serving


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
