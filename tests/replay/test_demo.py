"""``forestall demo`` on the recording that comes with Forestall, with two peers instead of a dozen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forestall.cli import demo, main
from forestall.replay.trace_reader import read_trace


@pytest.mark.slow
def test_the_demo_ends_with_a_report_and_says_how_to_ask_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "POLICY", "forestall,static,oracle")
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert tuple(said[: len(demo.ORIGIN)]) == demo.ORIGIN
    assert f"{out}/report.html" in said
    report = (out / "report.html").read_text("utf-8")
    assert all(line in report for line in demo.ORIGIN)
    assert demo.NAME in report
    header = json.loads((out / "summary.json").read_text("utf-8"))["header"]
    assert (header["vms"], header["step_seconds"], header["calendar"]) == (5, 720, False)
    assert (header["end"] - header["evaluate_from"]) // header["step_seconds"] == 312, "as it says"
    assert header["digest"] == read_trace(out / "trace.parquet").digest
    assert main(["policy", "check", str(out / "policy.toml")]) == 0
    question, _, command = said[-1].partition(": forestall ")
    assert question == "why a VM holds what it holds"
    capsys.readouterr()
    assert main(command.split()) == 0
    explained = capsys.readouterr().out
    assert "web: cpu, cores" in explained
    assert "(day 7, 03:24)" in explained, "no date that never was"


def test_a_file_in_the_way_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").touch()
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert capsys.readouterr().err.splitlines() == [f"forestall: {tmp_path / 'demo'}: is a file; --out names a folder"]
