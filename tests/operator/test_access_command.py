"""``forestall access``: what an operator sees of the log of accesses, and what may be given away."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from forestall.adapters.access_log.log import FileAccessLog
from forestall.adapters.clock.system import SystemClock
from forestall.bootstrap.access_log import access_folder, open_access_log
from forestall.cli import main
from forestall.cli.access_tables import SHADES
from forestall.ports.access_log import BLOCK, CONNECTION, MEMORY, PAGE, Accesses, Source
from forestall.replay.access.trace import read_access_trace
from forestall.service.configuration import Configuration

PAGES_OF_MIB = 256


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """State folder with an hour of accesses, of which a part grows; three VMs of one trust group, one of another.

    Each VM reads 64 pages from its own MiB on, one a second, and writes one block of a disk again and again.
    """
    log = FileAccessLog(access_folder(Configuration(state_folder=tmp_path)), "all", most_bytes=1 << 30, now=lambda: 0.0)
    began = SystemClock().now() - 3600
    for vm, group in enumerate(["red", "red", "red", "blue"]):
        at, pages = began + np.arange(64.0), PAGES_OF_MIB * (vm + 1) + np.arange(64)
        page, no = np.full(64, 4096), np.zeros(64, np.bool_)
        log.add(Source(f"vm-{vm}", group, "1", PAGE, MEMORY), Accesses(at, pages, page, no))
        disk = Source(f"vm-{vm}", group, "1", BLOCK, f"/disks/[{vm}].img", "postgres")
        log.add(disk, Accesses(at[:10] + 1800, np.full(10, 512), 2 * page[:10], ~no[:10]))
    log.close()
    return tmp_path


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code of a command, what it prints, and what it says is wrong."""
    code = main(["access", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def told(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    """Lines of a command that does its work, blanks as one."""
    code, out, err = asked(capsys, *words)
    assert (code, err) == (0, "")
    return [" ".join(line.split()) for line in out.splitlines() if line.strip()]


def data(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    code, out, err = asked(capsys, *words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_top_names_places_and_where_in_them(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "top", "--state-folder", state, "--most", 5)
    assert "offsets in MiB" in lines[0]
    assert lines[1] == "VM place offset accesses amount written first for gap"
    rows = [
        re.fullmatch(r"(\S+) (\S+) (\S+) (\d+) (\S+) (\d+ %) \d\d-\d\d \d\d:\d\d:\d\d (.*)", line) for line in lines[3:]
    ]
    assert [row.groups() for row in rows if row] == [
        *((f"vm-{vm}", f"/disks/[{vm}].img", "2.000", "10", "80kiB", "100 %", "9 s 1 s") for vm in range(4)),
        ("vm-0", "memory", "1.000", "1", "4kiB", "0 %", "0 ms –"),
    ]


def test_top_counts_by_what_is_asked_for(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = told(capsys, "top", "--by", "place", "--vm", "vm-1", "--state-folder", state)[3:]
    assert [line.split()[:6] for line in places] == [
        ["vm-1", "memory", "64", "256kiB", "0", "%"],
        ["vm-1", "/disks/[1].img", "10", "80kiB", "100", "%"],
    ]
    vms = told(capsys, "top", "--by", "vm", "--group", "red", "--state-folder", state)[3:]
    assert [line.split()[:2] for line in vms] == [["vm-0", "74"], ["vm-1", "74"], ["vm-2", "74"]]
    programs = told(capsys, "top", "--by", "program", "--kind", "block", "--most", 1, "--state-folder", state)[3:]
    assert [line.split()[:3] for line in programs] == [["vm-0", "postgres", "10"]]
    found = data(capsys, "top", "--place", "/disks/[3].img", "--state-folder", state)
    assert [(use["vm_id"], use["number"], use["median_gap_seconds"]) for use in found] == [("vm-3", 512, 1.0)]


def test_only_what_is_not_too_long_ago(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, accesses in (
        (["--since", "45m"], 40),
        (["--since", "2h"], 296),
        (["--until", "45m"], 256),
        (["--since", "2h", "--until", "3000"], 256),
        (["--since", "45m", "--until", "40m"], 0),
    ):
        found = data(capsys, "top", "--by", "vm", *words, "--state-folder", state)
        assert sum(use["accesses"] for use in found) == accesses


def test_runs_are_told_with_their_places(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "runs", "--vm", "vm-2", "--state-folder", state)
    assert lines[0].startswith("longest runs")
    assert re.fullmatch(r"vm-2 memory 3\.000 64 256kiB \d\d-\d\d \d\d:\d\d:\d\d 63 s", lines[3])
    assert lines[-2:] == ["vm-2 memory 64 98.4 % 64", "vm-2 /disks/[2].img 10 0.0 % 1"]
    found = data(capsys, "runs", "--kind", "block", "--state-folder", state)
    assert found["runs"] == []
    assert [share["ratio"] for share in found["shares"]] == [0.0] * 4
    assert "longest runs" not in " ".join(told(capsys, "runs", "--kind", "block", "--state-folder", state))


@pytest.mark.parametrize("command", ["top", "runs"])
def test_a_summary_tells_of_large_groups_only_and_names_no_vm(
    state: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    config = state / "forestall.toml"
    config.write_text(f"state_folder = '{state}'\n[applications]\nsummary_vms = 3\n")
    words = (command, "--summary", "--config", config)
    (line,) = told(capsys, *words)[3:]
    assert line.startswith("red 3 222 ")
    for text in (asked(capsys, *words)[1], asked(capsys, *words, "--json")[1]):
        assert "red" in text
        for name in ("blue", "vm-", "/disks", "memory", "postgres"):
            assert name not in text
    for more in (("--vm", "vm-0"), ("--place", "/disks/[0].img"), ("--group", "blue")):
        (line,) = told(capsys, *words, *more)
        assert line.startswith("no accesses were logged that fit the options by a trust group of at least 3 VMs: ")


def test_a_heatmap_shows_where_and_when(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("heatmap", "--vm", "vm-0", "--state-folder", state)
    code, out, _ = asked(capsys, *words, "--rows", 4, "--columns", 8)
    assert code == 0
    title, *rows, axis = out.splitlines()
    assert title.startswith("74 accesses of 1 VM in 2 places; █: up to 33; UTC, MiB")
    cells = [re.fullmatch(r"\d\d-\d\d \d\d:\d\d:\d\d ▕(.{8})▏", row) for row in rows]
    assert [cell[1] for cell in cells if cell] == ["██      ", "        ", "        ", "       ▓"]
    assert axis.split() == ["1.0", "1.5", "2.0"]
    found = data(capsys, *words, "--rows", 4, "--columns", 8)
    assert np.array(found["counts"])[[0, 0, 3], [0, 1, 7]].tolist() == [33, 31, 10]
    assert np.sum(found["counts"]) == 74
    assert (len(found["instants"]), len(found["numbers"])) == (5, 9)


def test_a_heatmap_fits_the_terminal(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (60, 133):
        monkeypatch.setenv("COLUMNS", str(width))
        _, out, _ = asked(capsys, "heatmap", "--kind", "page", "--state-folder", state)
        assert {len(line) for line in out.splitlines()[1:-1]} == {width}
        assert len(out.splitlines()[-1]) < width
        assert set(out) > set(SHADES[-1])


def test_an_export_can_be_replayed(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "t.parquet"
    code, out, _ = asked(capsys, "export", trace, "--kind", "page", "--state-folder", state)
    assert code == 0
    assert out.startswith(f"{trace}: accesses: 256; replay them with: forestall replay access {trace} ")
    assert pd.read_parquet(trace)["vm_id"].nunique() == 4
    assert len(read_access_trace(trace, pytest.fail)) == 256
    code, _, err = asked(capsys, "export", trace, "--kind", "block", "--state-folder", state)
    assert code == 2
    assert "--force replaces it" in err
    assert asked(capsys, "export", trace, "--kind", "block", "--force", "--state-folder", state)[0] == 0
    assert len(pd.read_parquet(trace)) == 40
    code, _, err = asked(capsys, "export", tmp_path / "u.parquet", "--vm", "nobody", "--state-folder", state)
    assert code == 1
    assert "no accesses were logged that fit" in err
    assert not (tmp_path / "u.parquet").exists()


@pytest.mark.parametrize("command", ["top", "runs", "heatmap"])
def test_without_accesses_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    line = f"no accesses were logged: {tmp_path}/access\n"
    assert asked(capsys, command, "--state-folder", tmp_path) == (0, line, "")
    found = data(capsys, command, "--state-folder", tmp_path)
    assert not any(found.values() if command != "top" else found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["top", "--by", "colour"], "--by colour: is none of item, place, vm, program"),
        (["top", "--by", "vm", "--summary"], "--summary counts by trust group"),
        (["top", "--kind", "disk"], "--kind disk: is none of page, block, connection"),
        (["runs", "--since", "1w"], "--since 1w: give a number"),
        (["heatmap", "--until", "-1"], "--until -1: give a number"),
        (["heatmap", "--since", "1h", "--until", "2h"], "--since 1h --until 2h: it ends before it begins"),
        (["heatmap", "--rows", "0"], "--rows"),
        (["runs", "--most", "0"], "--most"),
        (["export", "trace.csv"], "trace.csv: a trace is exported as Parquet"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], wrong: str
) -> None:
    code, out, err = asked(capsys, *words, "--state-folder", tmp_path)
    assert (code, out) == (2, "")
    assert wrong in err
    assert err.count("\n") == 1


def test_a_damaged_log_is_one_line(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = (state / "access").glob("*.parquet")
    path.write_bytes(b"PAR1 no more")
    code, out, err = asked(capsys, "top", "--state-folder", state)
    assert (code, out) == (1, "")
    assert err.startswith(f"forestall: {path}: is damaged")
    assert err.count("\n") == 1


def test_what_a_daemon_writes_is_seen_while_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = open_access_log(Configuration(state_folder=tmp_path), "memory", 1 << 20)
    who = Source("vm-1", "", "", CONNECTION, "eth0")
    many = np.arange(3000)
    log.add(who, Accesses(SystemClock().now() + many / 1e6, many + 7, many, many % 2 == 0))
    first = told(capsys, "top", "--most", 1, "--state-folder", tmp_path)[3]
    assert first.startswith("vm-1 eth0 #7 1 0B 100 % ")
    log.add(who, Accesses(SystemClock().now() + many / 1e6, many, many, many % 2 == 0))
    (row,) = data(capsys, "top", "--by", "vm", "--state-folder", tmp_path)
    assert row["accesses"] == 6000
    log.close()
