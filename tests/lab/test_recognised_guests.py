"""What real guests are for is recognised, at ports where nobody would look for it; by traffic, behaviour, and both."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nfstream", reason="nfstream is not installed")

from forestall.lab.plan import Pace
from forestall.lab.site import Lab

pytestmark = [pytest.mark.guests, pytest.mark.slow]
ROLES = {"postgres": "database", "stream": "streaming", "web": "web"}
PLACES = ("web:8099", "postgres:5499", "stream:8554")
PATIENCE = 480.0
POLICY = """
recognise_applications = 0.8

[[rule]]
name = "streams do not stutter"
applications = ["streaming"]
weight = 7
"""


@pytest.fixture(scope="module")
def lab(new_lab: Lab) -> Iterator[Lab]:
    with new_lab as lab:
        lab.up(PLACES, pace=Pace(start_hour=11.0, report_seconds=5.0))  # all three have something to do
        lab.wait(180.0)
        yield lab


@pytest.fixture(scope="module")
def daemon(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A daemon that follows the lab; its settings."""
    folder = tmp_path_factory.mktemp("daemon")
    (folder / "policy.toml").write_text(POLICY)
    settings = folder / "forestall.toml"
    head, _, tables = lab.place.settings.read_text().partition("\n[")
    resources = 'resources = ["cpu", "memory", "disk_read", "disk_write", "net_rx", "net_tx"]'
    policies = f'policies = "{folder / "policy.toml"}"'
    settings.write_text(f'{head}\n{resources}\n{policies}\n[learning]\nretrain = "off"\n\n[{tables}')
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "forestall", "run", "--config", str(settings)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield settings
    finally:
        process.terminate()
        process.wait(60)


def ask(settings: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "forestall", *words, "--json", "--config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else []


def test_guests_are_recognised_whatever_their_ports(lab: Lab, daemon: Path) -> None:
    """Each by what it sends, by what it does, and by both; a host that is busy may hear too little of one at a time."""
    deadline, found = time.monotonic() + PATIENCE, dict[str, dict[str, Any]]()
    wanted = {lab.domain(guest): category for guest, category in ROLES.items()}
    missing = {(vm_id, part) for vm_id in wanted for part in ("traffic", "behaviour", "together")}
    protocols: dict[str, set[str]] = {vm_id: set() for vm_id in wanted}
    while missing:
        assert time.monotonic() < deadline, f"{missing} not in {PATIENCE:.0f} s: {json.dumps(found, indent=1)}"
        time.sleep(2.0)
        found = {row["vm_id"]: row for row in ask(daemon, "applications")}
        for vm_id, row in found.items():
            protocols[vm_id] |= set(row["protocols"])
            for part in ("traffic", "behaviour", "together"):
                if row[part] and max(row[part], key=row[part].get) == wanted[vm_id]:
                    missing.discard((vm_id, part))
    assert "HTTP" in protocols[lab.domain("web")]
    assert "PostgreSQL" in protocols[lab.domain("postgres")]
    assert protocols[lab.domain("stream")] & {"RTP", "RTSP"}
    assert "lab" not in str(found[lab.domain("web")]["names"]), "the name that visitors ask for is a hash"
    assert found[lab.domain("web")]["names"]


def test_rules_take_them_for_that(lab: Lab, daemon: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    stream = lab.domain("stream")
    while not any(row["vm_id"] == stream and row["tag"] == "streaming" for row in ask(daemon, "applications")):
        assert time.monotonic() < deadline
        time.sleep(2.0)
    assert ask(daemon, "applications", "--summary") == [], "three VMs are too few to tell of"
    while not (parts := ask(daemon, "explain", stream)) or parts[0]["weight"] != 7.0:
        assert time.monotonic() < deadline
        time.sleep(2.0)
    assert "streams do not stutter" in json.dumps(parts)
