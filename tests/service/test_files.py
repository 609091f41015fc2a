"""Originals, lock, heartbeat and record of crashes, as files."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapters.files.crashes import FileCrashes
from forestall.adapters.files.lead_times import FileLeadTimes
from forestall.adapters.files.liveness import FileHeart, FilePulse, locked
from forestall.adapters.files.originals import FileOriginals
from forestall.adapters.files.restorations import FileRestorations
from forestall.adapters.libvirt.lead_times import LeadTimes
from forestall.adapters.simulated.memory_journal import MemoryJournal
from forestall.bootstrap import daemon
from forestall.bootstrap.live import Opened
from forestall.model.decision import Restoration
from forestall.model.errors import HypervisorError, StoreError
from forestall.model.mode import Mode
from forestall.ports.hypervisor import VmSettings
from forestall.service.configuration import Configuration

A = VmSettings("web-1", "run-7", {"cpu_quota": -1, "memory": 4096})


def test_the_first_settings_of_an_incarnation_are_kept(tmp_path: Path) -> None:
    originals = FileOriginals(tmp_path / "originals")
    assert originals.kept() == ()
    assert originals.keep(A) == A
    assert originals.keep(VmSettings("web-1", "run-7", {"cpu_quota": 500})) == A
    assert FileOriginals(tmp_path / "originals").kept() == (A,)
    anew = VmSettings("web-1", "run-8", {"cpu_quota": 500})
    assert originals.keep(anew) == anew
    originals.forget("web-1")
    originals.forget("web-1")
    assert originals.kept() == ()


def test_restorations_wait_for_the_journal_and_are_handed_over_once(tmp_path: Path) -> None:
    waiting, journal = FileRestorations(tmp_path), MemoryJournal()
    assert waiting.hand_over(journal) == 0
    restored = [Restoration("web-1", 900, "by hand"), Restoration("line\nbreak ☃", 1200, "")]
    waiting.append(restored[:1])
    (tmp_path / "restorations.jsonl").open("a").write('{"vm_id": "x", "at": 1e30, "why": ""}\n{"vm_id": "cut o')
    waiting.append(restored[1:])
    assert FileRestorations(tmp_path).held() == tuple(restored)
    assert waiting.hand_over(journal) == 2
    assert list(journal.restorations()) == restored
    assert waiting.held() == ()


@given(st.lists(st.text(min_size=1, max_size=300), unique=True, max_size=5))
def test_any_name_of_a_vm_is_a_file_in_the_folder(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("o") / "originals"
    originals = FileOriginals(folder)
    entries = [VmSettings(name, "1", {"n": i}) for i, name in enumerate(names) if _writable(name)]
    for entry in entries:
        originals.keep(entry)
    assert {e.vm_id: e for e in originals.kept()} == {e.vm_id: e for e in entries}
    assert all(path.parent == folder for path in folder.rglob("*"))


def _writable(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"vm_id": 3}', b"\xff\xfe", b"", b"[" * 100_000])
def test_a_damaged_entry_is_named_and_the_others_are_used(tmp_path: Path, content: bytes) -> None:
    said: list[str] = []
    originals = FileOriginals(tmp_path, said.append)
    originals.keep(A)
    (tmp_path / "db-1.json").write_bytes(content)
    assert originals.kept() == (A,)
    assert len(said) == 1
    assert "db-1.json: is damaged" in said[0]
    with pytest.raises(StoreError, match=r"db-1\.json: is damaged"):
        originals.keep(VmSettings("db-1", "1", {}))
    assert (tmp_path / "db-1.json").read_bytes() == content, "what is left of it is not written over"


def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    originals = FileOriginals(tmp_path)
    originals.keep(A)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="cannot be written: No space left on device"):
        originals.keep(VmSettings("db-1", "1", {}))
    monkeypatch.undo()
    assert originals.kept() == (A,)
    assert [p.name for p in tmp_path.iterdir()] == ["web-1.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting wants root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "forestall-test", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        originals = FileOriginals(place / "originals")
        originals.keep(A)
        many = [VmSettings(f"vm-{i}", "1", {"text": "x" * 2000}) for i in range(100)]
        with pytest.raises(StoreError, match="No space left on device"):
            list(map(originals.keep, many))
        kept = originals.kept()
        assert A in kept
        assert len(kept) == len(list((place / "originals").iterdir()))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_one_daemon_a_state_folder(tmp_path: Path) -> None:
    holder = "import sys; from pathlib import Path; from forestall.adapters.files.liveness import locked\n"
    holder += f"with locked(Path({str(tmp_path)!r})):\n    print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"is in use by process {process.pid}"), locked(tmp_path, looks=2):
            pass
        assert FilePulse(tmp_path).why_dead() == "the heartbeat cannot be read"
        process.kill()
        process.wait()
        with locked(tmp_path):
            pass


def test_a_heartbeat_grows_old(tmp_path: Path) -> None:
    now = [1000.0]
    heart, pulse = FileHeart(tmp_path, 60, lambda: now[0]), FilePulse(tmp_path, lambda: now[0])
    assert pulse.why_dead() == "no daemon runs"
    with locked(tmp_path):
        # flock does not tell two files of one process apart, so the lock is asked about from another descriptor
        heart.beat(Mode.ENFORCE)
        assert json.loads((tmp_path / "heartbeat.json").read_text())["mode"] == "enforce"
        assert pulse.why_dead() == ""
        now[0] += 61
        assert pulse.why_dead() == "the last heartbeat is 61 s old"
        now[0] = 5.0
        assert "old" in pulse.why_dead(), "of an earlier boot"
        (tmp_path / "heartbeat.json").write_text("{")
        assert pulse.why_dead() == "the heartbeat cannot be read"


def test_unclean_ends_are_counted(tmp_path: Path) -> None:
    assert FileCrashes(tmp_path).begin(100.0) == ()
    assert FileCrashes(tmp_path).begin(200.0) == (200.0,)
    assert FileCrashes(tmp_path).begin(300.0) == (200.0, 300.0)
    FileCrashes(tmp_path).end()
    assert FileCrashes(tmp_path).begin(400.0) == (200.0, 300.0)
    (tmp_path / "crashes.json").write_text("damaged")
    assert FileCrashes(tmp_path).begin(500.0) == (500.0,)


def test_lead_times_are_read_as_they_were_written(tmp_path: Path) -> None:
    said: list[str] = []
    times = FileLeadTimes(tmp_path / "state" / "lead-times.json", said.append)
    assert times.read() == {}
    times.write({"balloon": [0.5, 1.25], "quota": []})
    assert FileLeadTimes(tmp_path / "state" / "lead-times.json", said.append).read() == {
        "balloon": [0.5, 1.25],
        "quota": [],
    }
    assert said == []


@pytest.mark.parametrize(
    "content",
    [b"{", b"[1]", b'{"balloon": 3}', b'{"balloon": "12"}', b'{"balloon": [null]}', b'{"balloon": [-1]}',
     b'{"balloon": [NaN]}', b'{"balloon": [[1]]}', b"\xff", b"", b"null 1", b"[" * 100_000],
)  # fmt: skip
def test_damaged_lead_times_are_one_note_and_a_fresh_start(tmp_path: Path, content: bytes) -> None:
    path, said = tmp_path / "lead-times.json", list[str]()
    path.write_bytes(content)
    times = FileLeadTimes(path, said.append)
    assert times.read() == {}
    assert len(said) == 1
    assert "lead-times.json: is damaged: " in said[0]
    assert said[0].count("\n") == 0
    times.write({"balloon": [2.0]})
    assert times.read() == {"balloon": [2.0]}


def test_lead_times_that_cannot_be_written_are_told_once(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "state").touch()
    times = FileLeadTimes(tmp_path / "state" / "lead-times.json", said.append)
    times.write({"balloon": [1.0]})
    times.write({"balloon": [1.0]})
    assert len(said) == 1
    assert said[0].endswith("; lead times are not kept")
    (tmp_path / "state").unlink()
    times.write({"balloon": [1.0]})
    assert times.read() == {"balloon": [1.0]}


def test_a_daemon_starts_with_the_lead_times_that_were_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lead-times.json").write_text('{"balloon": [2.0, 4.0, 3.0]}')
    opened: list[LeadTimes] = []

    def unreachable(configuration: Configuration, lead_times: LeadTimes) -> Opened:
        opened.append(lead_times)
        raise HypervisorError("nobody there")

    monkeypatch.setattr(daemon, "open_host", unreachable)
    with pytest.raises(HypervisorError, match="nobody there"):
        daemon.run_daemon(Configuration(state_folder=tmp_path))
    assert [times.seconds("balloon") for times in opened] == [3.0]
