"""Every bad trace is refused with one clear line, or repaired and the repair stated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad_inputs import CASES, BadInputCase, good_file

from forestall.cli import main
from forestall.model.samples import Trace
from forestall.replay.trace_reader import read_trace


def test_there_are_many_distinct_cases() -> None:
    assert len({c.name for c in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input_is_answered_in_one_line(
    case: BadInputCase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "check", str(case.write(tmp_path))]) == case.exit_code
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert [line for line in lines if all(text in line for text in case.texts)], err
    assert all(line.startswith("forestall: ") for line in lines)
    assert all(str(tmp_path) in line for line in lines)
    if case.exit_code:
        assert len(lines) == 1
        assert out == ""


def test_good_input_is_taken_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "check", str(good_file(tmp_path)), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    summary = json.loads(out)
    assert (summary["vms"], summary["step_seconds"], summary["steps"], summary["gaps"]) == (2, 300, 120, 0)
    assert [r["name"] for r in summary["resources"]] == ["cpu", "memory", "net_rx"]


def test_a_file_that_may_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = good_file(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", refuse)
    assert main(["trace", "check", str(path)]) == 2
    assert "permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trace", "check"], "Missing argument"),
        (["trace", "chekc", "x"], "No such command"),
        (["trace", "check", "x", "--jsn"], "No such option"),
        (["trace", "import", "bitbrain", "x", "--out", "y"], "did you mean 'bitbrains'?"),
        (["trace", "import", "bitbrains", "x", "--out", "y", "--cores", "2"], "no option --cores"),
        (["trace", "import", "table", "x", "--out", "y", "--map", "cpu=1"], "no column 'cpu'"),
        (["trace", "import", "prometheus", "http://x", "--out", "y"], "needs --start"),
        (["trace", "import", "prometheus", "x", "--out", "y"], "is not a URL"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert text in lines[0]


def test_an_interruption_has_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> Trace:
        raise KeyboardInterrupt

    monkeypatch.setattr("forestall.replay.trace_reader.read_trace", interrupt)
    assert main(["trace", "check", str(good_file(tmp_path))]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_what_can_be_repaired_is_repaired_as_stated(tmp_path: Path) -> None:
    by_name = {c.name: c for c in CASES}
    good = read_trace(good_file(tmp_path))

    def read(name: str) -> Trace:
        folder = tmp_path / name
        folder.mkdir()
        return read_trace(by_name[name].write(folder), warn=lambda _: None)

    assert read("rows out of order").digest == good.digest
    assert read("milliseconds").digest == good.digest
    assert read("off the grid by seconds").digest == good.digest
    assert read("a clock ten years ahead").grid == good.grid
    assert read("negative demand").grid == good.grid
