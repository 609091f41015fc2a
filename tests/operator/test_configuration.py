"""``forestall.toml``: every bad file is refused in one line, and the one in ``packaging`` is complete and true."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from bad_configurations import BAD

from forestall.cli import main
from forestall.model.errors import BadInput
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.service.configuration import (
    ActuatorConfiguration,
    Configuration,
    SafetyConfiguration,
    StoreConfiguration,
)
from forestall.service.configuration_document import KEYS, TABLES, document_of, read_configuration, settings_of
from forestall.settings import configuration_file, load_configuration

PACKAGED = Path(__file__).parents[2] / "packaging" / "forestall.toml"


@pytest.fixture(autouse=True)
def _no_file_of_this_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORESTALL_CONFIG", str(tmp_path / "none.toml"))


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "forestall.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, text = BAD[name]
    path = tmp_path / "forestall.toml" if content is None else write(tmp_path, content)
    for command in ("check", "show"):
        assert main(["config", command, str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith(f"forestall: {path}: ")
        assert text in err
        assert len(err) < 500


def test_every_field_has_a_reader() -> None:
    for name, kind in {"": Configuration, **TABLES}.items():
        assert [f.name for f in fields(kind) if f.name not in TABLES] == list(KEYS[name])
    tables = {f.name: f.default_factory for f in fields(Configuration) if is_dataclass(f.default_factory)}
    assert tables == TABLES


def test_the_packaged_file_loads_to_the_defaults() -> None:
    assert load_configuration(PACKAGED) == Configuration()


def _uncommented() -> str:
    """Return the packaged file with every key that it shows."""
    return re.sub(r"^#(?=\w+ = )", "", PACKAGED.read_text("utf-8"), flags=re.MULTILINE)


def test_the_packaged_file_shows_every_key_once_with_its_default() -> None:
    document = tomllib.loads(_uncommented())
    configuration = read_configuration(document)
    assert configuration.policies == Path("policy.toml")
    assert configuration.fabric.topology == Path("network.json")
    fabric = replace(configuration.fabric, topology=None)
    assert configuration.api.certificate == Path("/etc/forestall/api.pem")
    api = replace(configuration.api, certificate=None, key=None)
    assert configuration.sign_in.client_secret_file == Path("/etc/forestall/oidc.secret")
    sign_in = replace(configuration.sign_in, client_secret_file=None)
    assert replace(configuration, policies=None, fabric=fabric, api=api, sign_in=sign_in) == Configuration()
    shown = [f"{t}.{k}" for t in TABLES for k in document[t]] + [k for k in document if k not in TABLES]
    assert sorted(shown) == sorted(settings_of(Configuration()))


def test_the_packaged_file_says_what_each_key_means() -> None:
    lines = PACKAGED.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#\w+ = ", line):
            before = lines[number - 1]
            assert before.startswith("# ") or re.match(r"#\w+ = ", before), f"{line} is not explained"


def test_what_is_shown_reads_back_as_the_same(tmp_path: Path) -> None:
    odd = Configuration(
        connect='qemu+ssh://o"perator@höst/system\\',
        mode=Mode.CANARY,
        canary_share=1 / 3,
        step_seconds=1,
        violation_budget=1e-7,
        max_changes_per_vm_hour=0.25,
        resources=(Resource.NET_TX, Resource.CPU),
        vms=("web-[0-9]*", "db 'one'"),
        policies=tmp_path / "my policies.toml",
        state_folder=tmp_path,
        actuators=ActuatorConfiguration(cpu="off", network="tc"),
        safety=SafetyConfiguration(floor_bytes=1e18, lease_seconds=2),
        store=StoreConfiguration("postgresql://me@db-1:5433/fore%20stall?sslmode=verify-full&service=x"),
    )
    assert load_configuration(write(tmp_path, document_of(odd))) == odd


def test_a_password_of_the_database_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for url in (
        "postgresql://u:s3cret@db/f",
        "postgresql://db/f?password=s3cret",
        "postgresql://u:s3cret@[db/f",
        "postgresql://u:s3cret?@db/f",
        "postgresql://u:s3?s3cret@h/db",
        "postgresql://u:s3#s3cret@h/db",
        "postgresql://u:s3/s3cret@h/db",
        "postgresql://db/f?sslpassword=s3cret",
        "postgresql://db/f?pass%77ord=s3cret",
        "postgresql://db/f?oauth_client_secret=s3cret",
        "host=db password=s3cret",
        "postgresql://u:s3cret@db/" + "f" * 300,
        "s3cret" * 300,
    ):
        assert main(["config", "check", str(write(tmp_path, f"[store]\nurl = '{url}'\n"))]) == 2
        assert "s3cret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///forestall",
        "postgres://db",
        "postgresql://me@one:5432,two:5433/f?target_session_attrs=read-write",
        "postgresql://me@[fe80::1]:5432/f",
        "postgresql://%2Frun%2Fpostgresql/f",
        "postgresql:///f?host=/run/postgresql&user=me&passfile=/etc/forestall/pgpass&sslkey=/etc/forestall/key.pem",
        "postgresql://db/f?sslrootcert=/etc/ssl/" + "x" * 300,
    ],
)
def test_a_database_may_be_named_as_libpq_does(tmp_path: Path, url: str) -> None:
    assert load_configuration(write(tmp_path, f"[store]\nurl = '{url}'\n")).store.url == url


def test_show_writes_a_file_that_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "mode = 'enforce'\n[host]\nreserved_cores = 2\n")
    assert main(["config", "show", str(path)]) == 0
    shown = write(tmp_path, capsys.readouterr().out)
    found = load_configuration(shown)
    assert (found.mode, found.host.reserved_cores) == (Mode.ENFORCE, 2.0)


def test_check_says_what_the_file_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "mode = 'enforce'\n[host]\nreserved_cores = 2\n")
    assert main(["config", "check", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("differ from the defaults: 2")
    assert [line.split()[1] for line in lines if line.startswith("file ")] == ["mode", "host.reserved_cores"]
    assert len(lines) == 1 + len(settings_of(Configuration()))
    assert main(["config", "check", str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["changed"] == ["mode", "host.reserved_cores"]
    assert answer["settings"]["safety"]["lease_seconds"] == 60


def test_check_reads_the_policies_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "policies = 'policy.toml'\n")
    assert main(["config", "check", str(path)]) == 2
    assert f"{tmp_path / 'policy.toml'}: cannot be read" in capsys.readouterr().err
    (tmp_path / "policy.toml").write_text('[[rule]]\nname = "a"\nweight = 2\n')
    assert main(["config", "check", str(path)]) == 0
    assert load_configuration(path).policies == tmp_path / "policy.toml"


def test_the_environment_names_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORESTALL_CONFIG", str(write(tmp_path, "mode = 'observe'\n")))
    assert load_configuration().mode is Mode.OBSERVE
    assert main(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "observe"


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_configuration()


def test_without_any_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORESTALL_CONFIG")
    absent = tmp_path / "etc" / "forestall.toml"
    assert configuration_file(default=absent) is None
    assert load_configuration(default=absent) == Configuration()
    there = write(tmp_path, "mode = 'observe'\n")
    assert load_configuration(default=there).mode is Mode.OBSERVE


def test_a_default_file_that_leads_nowhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORESTALL_CONFIG")
    link = tmp_path / "forestall.toml"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(BadInput, match="cannot be read"):
        load_configuration(default=link)
