"""Lines for the operator: as ever, or as JSON for programs, also of what is logged and of what ends a command."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from forestall.bootstrap.telling import tell, tell_what_is_logged
from forestall.cli import main


@pytest.fixture
def as_json(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FORESTALL_LOG", "json")
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = before, level


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_people_read_what_they_always_did(capsys: pytest.CaptureFixture[str]) -> None:
    tell("every VM is as it was")
    assert capsys.readouterr().err == "forestall: every VM is as it was\n"


def test_programs_read_an_object_in_each_line(as_json: None, capsys: pytest.CaptureFixture[str]) -> None:
    tell('a "line"\nwith a break', "warning")
    (said,) = lines(capsys)
    assert (said["message"], said["level"]) == ('a "line"\nwith a break', "warning")
    assert datetime.now(UTC) - datetime.fromisoformat(said["at"]) < timedelta(minutes=1)


def test_what_is_logged_is_told_with_its_exception(as_json: None, capsys: pytest.CaptureFixture[str]) -> None:
    tell_what_is_logged()
    logging.getLogger("some.part").info("not told")
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("some.part").exception("it went wrong: %s", 5)
    (said,) = lines(capsys)
    assert (said["message"], said["level"], said["logger"]) == ("it went wrong: 5", "error", "some.part")
    assert "KeyError: 'x'" in said["exception"]


def test_why_a_command_ends(as_json: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "check", "/nowhere.parquet"]) == 2
    (said,) = lines(capsys)
    assert said["level"] == "error"
    assert "/nowhere.parquet" in said["message"]


def test_the_command_is_named() -> None:
    call = [sys.executable, "-m", "forestall", "policy", "check", "/nowhere.toml"]
    ended = subprocess.run(call, env={"FORESTALL_LOG": "json"}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert json.loads(ended.stderr)["command"] == "policy"
