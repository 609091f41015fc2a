"""All that is kept in one file: while the daemon runs, whole or refused, and a beginning for a new state folder."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
import zstandard
from daemons import Site, end, wait_until

from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.files.policy_book import FilePolicyBook
from forestall.adapters.files.state_archive import read_archive, write_archive
from forestall.bootstrap.backup import check_backup, create_backup, restore_backup
from forestall.cli import main
from forestall.model.errors import BadInput, StoreError, WrongUse
from forestall.service.configuration import Configuration
from forestall.service.control import ask


def test_of_a_running_daemon_and_back(tmp_path: Path) -> None:
    out, again = tmp_path / "b.tar.zst", tmp_path / "again"
    (tmp_path / "policy.toml").write_text('[[rule]]\nname = "half"\nceiling_ratio = 0.5\n')
    with Site(tmp_path, vms=3) as site:
        daemon = site.daemon("enforce")
        wait_until(lambda: site.state.exists() and (ask(site.state, {"command": "status"}) or {}).get("cycles"), "runs")
        assert site.call("policy", "apply", str(tmp_path / "policy.toml")).returncode == 0
        assert site.call("token", "create", "ops").returncode == 0
        wait_until(lambda: ask(site.state, {"command": "status"})["altered"], "VMs are altered")
        made = site.call("backup", "create", str(out), "--json")
        assert made.returncode == 0, made.stderr
        before = ask(site.state, {"command": "status"})["cycles"]
        wait_until(lambda: ask(site.state, {"command": "status"})["cycles"] > before, "it goes on")
        assert list((site.state / "copies").iterdir()) == [], "nothing is left behind"
        end(daemon)
        kept = DuckdbStore(site.state / "forestall.duckdb")
        vm_ids = kept.vm_ids()
        kept.close()
    assert out.stat().st_mode & 0o077 == 0, "there are secrets in it"
    files = json.loads(made.stdout)["files"]
    assert {"forestall.duckdb", "policies/000001.toml", "api/tokens.json", "api/audit.jsonl"} <= files.keys()
    assert any(name.startswith("originals/") for name in files)
    assert not {"lock", "heartbeat.json", "forestall.sock"} & files.keys()
    assert check_backup(out)["files"] == files
    restore_backup(out, again)
    assert not (again / "originals").exists(), "they are of the moment"
    assert FilePolicyBook(again).text(FilePolicyBook(again).versions()[0]) == (tmp_path / "policy.toml").read_text()
    store = DuckdbStore(again / "forestall.duckdb")
    assert store.vm_ids() == vm_ids
    store.close()
    restore_backup(out, tmp_path / "moment", of_the_moment=True)
    assert list((tmp_path / "moment/originals").iterdir())


def test_without_a_daemon_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, out = tmp_path / "state", tmp_path / "b.tar.zst"
    DuckdbStore(state / "forestall.duckdb").close()
    (state / "api").mkdir()
    (state / "api/audit.jsonl").write_text('{"n": 1}\n{"n": 2')  # its end is being written
    (state / "link").symlink_to("/etc/passwd")
    assert main(["backup", "create", str(out), "--state-folder", str(state)]) == 0
    assert main(["backup", "check", str(out)]) == 0
    assert main(["backup", "restore", str(out), "--state-folder", str(tmp_path / "new")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert ["2 files" in line for line in told] == [True] * 3
    assert (tmp_path / "new/api/audit.jsonl").read_text() == '{"n": 1}\n'
    assert not (tmp_path / "new/link").exists()
    assert main(["backup", "create", str(out), "--state-folder", str(state)]) == 2
    assert main(["backup", "restore", str(out), "--state-folder", str(state)]) == 2
    assert main(["backup", "create", str(state / "b"), "--state-folder", str(state)]) == 2
    assert main(["backup", "create", str(tmp_path / "c"), "--state-folder", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 4


def archived(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    """An archive as somebody else might make one."""
    packed = io.BytesIO()
    with tarfile.open(mode="w", fileobj=packed) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(data), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(data))
    path.write_bytes(zstandard.compress(packed.getvalue()))
    return path


def test_what_is_damaged_or_no_backup_becomes_nothing(tmp_path: Path) -> None:
    good = tmp_path / "good"
    (tmp_path / "x").write_text("hello")
    write_archive(good, {"a/x": tmp_path / "x"}, {}, frozenset())
    data = bytearray(zstandard.decompress(good.read_bytes(), max_output_size=1 << 20))
    data[data.index(b"hello")] ^= 1
    changed = tmp_path / "changed"
    changed.write_bytes(zstandard.compress(bytes(data)))
    cut = tmp_path / "cut"
    cut.write_bytes(good.read_bytes()[:-20])
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"not at all")
    manifest = json.dumps({"format": 1, "files": {}}).encode()
    for bad, why in (
        (changed, "a/x is not as it was written"),
        (cut, "damaged"),
        (nothing, "no backup of Forestall"),
        (archived(tmp_path / "1", {"x": b""}), "list of its files is missing"),
        (archived(tmp_path / "2", {"manifest.json": b'{"format": 2, "files": {}}'}), "another form"),
        (archived(tmp_path / "3", {"manifest.json": manifest, "more": b""}), "more is not as it was written"),
        (archived(tmp_path / "4", {"../up": b"x"}), "does not belong"),
        (archived(tmp_path / "5", {"/up": b"x"}), "does not belong"),
        (archived(tmp_path / "6", {"a": b""}, tarfile.SYMTYPE), "does not belong"),
        (archived(tmp_path / "7", {"a": b""}, tarfile.CHRTYPE), "does not belong"),
    ):
        with pytest.raises(BadInput, match=why):
            check_backup(bad)
        with pytest.raises(BadInput, match=why):
            restore_backup(bad, tmp_path / "new")
        assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing is left behind"


def test_what_has_gone_meanwhile_is_left_out_but_for_what_is_needed(tmp_path: Path) -> None:
    files = {"a": tmp_path / "gone"}
    assert write_archive(tmp_path / "out", files, {}, frozenset())["files"] == {}
    assert read_archive(tmp_path / "out")["files"] == {}
    with pytest.raises(StoreError, match="gone"):
        write_archive(tmp_path / "other", files, {}, frozenset({"a"}))
    assert not (tmp_path / "other").exists()


def test_while_another_process_has_the_folder(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="nothing is kept"):
        create_backup(Configuration(state_folder=tmp_path / "none"), tmp_path / "out")
