"""The units of systemd call commands that exist, with options that they have, and systemd understands them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from forestall.cli import make_app

FOLDER = Path(__file__).parents[2] / "packaging" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
PROGRAM = "/opt/forestall/bin/forestall"
STATE = "/var/lib/forestall"


def directives(path: Path) -> list[tuple[str, str]]:
    """Every ``Key=value`` of a unit, in order."""
    lines = path.read_text("utf-8").splitlines()
    return [(k, v) for line in lines if re.match(r"\w+=", line) for k, _, v in [line.partition("=")]]


def commands(path: Path) -> list[list[str]]:
    """Words behind ``forestall`` of every command line of a unit."""
    lines = [value.lstrip("-+!@:") for key, value in directives(path) if key.startswith("Exec") and key != "ExecReload"]
    assert all(line.startswith(PROGRAM + " ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


def test_there_are_five() -> None:
    assert [path.name for path in UNITS] == [
        "forestall-controller.service",
        "forestall-fabric.service",
        "forestall-restore.service",
        "forestall-watchdog.service",
        "forestall.service",
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_command_line_is_one_of_ours(path: Path) -> None:
    known = getattr(typer.main.get_command(make_app()), "commands", {})
    for words in commands(path):
        assert words[0] in known, f"there is no command forestall {words[0]}"
        options = {option for parameter in known[words[0]].params for option in parameter.opts}
        assert [word for word in words[1:] if word.startswith("--") and word.partition("=")[0] not in options] == []


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_that_are_named_exist(path: Path) -> None:
    for key, value in directives(path):
        if key in ("Wants", "Requires", "OnFailure", "BindsTo", "PartOf"):
            assert [n for n in value.split() if n.endswith(".service") and not (FOLDER / n).exists()] == []


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_unit_writes_to_the_state_folder_and_control_groups_alone(path: Path) -> None:
    found = dict(directives(path))
    assert (found["ProtectSystem"], found["NoNewPrivileges"]) == ("strict", "yes")
    written = {value for key, value in directives(path) if key == "ReadWritePaths"}
    limits_vms = path.name not in ("forestall-controller.service", "forestall-fabric.service")
    assert written == {STATE} | ({"/sys/fs/cgroup"} if limits_vms else set())
    assert found["ProtectControlGroups"] == ("no" if limits_vms else "yes")
    assert f"/var/lib/{found['StateDirectory']}" == STATE


def test_the_watchdog_outlives_what_it_watches() -> None:
    found = directives(FOLDER / "forestall-watchdog.service")
    assert not {"BindsTo", "PartOf", "Requires", "Conflicts"} & {key for key, _ in found}
    assert dict(found)["Restart"] == "always"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    program = tmp_path / "forestall"
    program.symlink_to(sys.executable)
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text("utf-8").replace(PROGRAM, str(program)))
    files = [str(tmp_path / path.name) for path in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "forestall" in line]
    assert ours == []
