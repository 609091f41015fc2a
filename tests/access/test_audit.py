"""What was done stands in the audit log, and what was changed there shows."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapters.files.audit_log import NAME, FileAuditLog
from forestall.model.errors import StoreError
from forestall.ports.audit_log import AuditEntry, Deed
from forestall.service.access.audit import chained, verified

DEED = Deed(1_000.5, "ops", "operator", "127.0.0.1", "POST /api/v1/vms/web-1/restore", "200", {"vm": "web-1"})


def log_in(folder: Path) -> FileAuditLog:
    return FileAuditLog(folder, chained)


def fault(log: FileAuditLog, known: tuple[int, str] | None = None) -> str:
    """What is wrong with a log; empty where nothing is."""
    try:
        verified(log.entries(), known)
    except StoreError as error:
        return str(error)
    return ""


def written(folder: Path, count: int = 5) -> list[AuditEntry]:
    return [log_in(folder).append(Deed(float(k), "ops", "admin", "here", f"deed {k}", "done")) for k in range(count)]


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    entries = [log.append(DEED), *written(tmp_path)]
    assert list(log.entries()) == entries
    assert list(log.entries(after=4)) == entries[4:]
    assert entries[0].deed == DEED
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert fault(log) == ""


@given(data=st.data())
def test_whatever_is_changed_left_out_or_moved_shows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    entries = written(folder)
    lines = (folder / NAME).read_text().splitlines(keepends=True)
    kind = data.draw(st.sampled_from(["change", "drop", "swap", "again"]))
    k = data.draw(st.integers(0, 3))
    if kind == "change":
        plain = json.loads(lines[k])
        key = data.draw(st.sampled_from(sorted(plain["deed"])))
        plain["deed"][key] = {"at": 77.0, "detail": {"x": 1}}.get(key, "other")
        lines[k] = json.dumps(plain) + "\n"
    elif kind == "drop":
        del lines[k]
    elif kind == "swap":
        lines[k], lines[k + 1] = lines[k + 1], lines[k]
    else:
        lines.insert(k, lines[k])
    (folder / NAME).write_text("".join(lines))
    assert fault(log_in(folder)) != ""
    assert entries[0].before == "0" * 64


def test_what_is_cut_off_or_written_anew_shows_by_what_was_noted_elsewhere(tmp_path: Path) -> None:
    noted = written(tmp_path)[3]
    log = log_in(tmp_path)
    assert fault(log, (noted.sequence, noted.hash)) == ""
    lines = (tmp_path / NAME).read_text().splitlines(keepends=True)
    (tmp_path / NAME).write_text("".join(lines[:3]))
    assert fault(log) == ""
    assert "cut off" in fault(log, (noted.sequence, noted.hash))
    written(tmp_path)
    assert "entry 4 is not the one" in fault(log, (noted.sequence, noted.hash))


@pytest.mark.parametrize("left", [1, 10, 200])
def test_what_a_process_that_died_had_begun_is_cut_off(tmp_path: Path, left: int) -> None:
    entries = written(tmp_path)
    line = (tmp_path / NAME).read_bytes().splitlines(keepends=True)[-1]
    with (tmp_path / NAME).open("ab") as file:
        file.write(line[:left])
    log = log_in(tmp_path)
    assert list(log.entries()) == entries
    log.append(DEED)
    assert [entry.sequence for entry in log.entries()] == [1, 2, 3, 4, 5, 6]
    assert fault(log) == ""


def test_an_end_that_is_no_entry_is_not_written_over(tmp_path: Path) -> None:
    written(tmp_path)
    with (tmp_path / NAME).open("ab") as file:
        file.write(b"x" * 10 + b"\n")
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(StoreError, match="damaged"):
        log_in(tmp_path).append(DEED)
    assert (tmp_path / NAME).read_bytes() == before


def test_an_entry_that_is_too_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    written(tmp_path)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(StoreError, match="longer than"):
        log_in(tmp_path).append(Deed(0.0, "a", "admin", "here", "x" * 70_000, ""))
    assert (tmp_path / NAME).read_bytes() == before


def _many(folder: Path) -> int:
    for _ in range(25):
        log_in(folder).append(DEED)
    return os.getpid()


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        assert len(list(pool.map(_many, [tmp_path] * 4))) == 4
    log = log_in(tmp_path)
    assert [entry.sequence for entry in log.entries()] == list(range(1, 101))
    assert fault(log) == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udcff", b"bytes", (1, 2)])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, value: object) -> None:
    entries = written(tmp_path)
    with pytest.raises(StoreError, match="cannot be written down"):
        log_in(tmp_path).append(Deed(0.0, "a", "admin", "here", "x", "", {"value": value}))
    assert list(log_in(tmp_path).entries()) == entries
    assert verified(log_in(tmp_path).entries()) == entries[-1]
    assert log_in(tmp_path).append(DEED).sequence == 6
