"""Whatever dies, every guest is as decided or as it was, within the lease, and the journal tells which."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live_daemon import LEASE_SECONDS, PATIENCE_SECONDS, STEP_SECONDS, Ask, Daemon, Held, load, pass_time

from forestall.lab.daemon import libvirt_module
from forestall.lab.site import Lab
from forestall.model.resources import Resource
from repeats import times

pytestmark = [pytest.mark.guests, pytest.mark.slow]
BUSY, CALM = "spare", "database"
KILLS, SEED = times(6, 20), 20
IN_THE_MIDDLE_SHARE, MIDDLE_SECONDS, START_SECONDS = 0.7, 2.0, 6.0
"""So many kills come within some seconds of the first change, the others within some of the start."""
SWAY_SECONDS = 5.0
DISK_BYTES = 48 * 1024 * 1024


@contextmanager
def swaying(lab: Lab) -> Iterator[None]:
    """The work of a guest comes and goes meanwhile, so that there is always something to change."""
    over = threading.Event()

    def sway() -> None:
        level = 1.0
        while not over.wait(SWAY_SECONDS):
            load(lab, BUSY, level)
            level = 1.0 - level

    with ThreadPoolExecutor(1) as pool:
        swayed = pool.submit(sway)
        try:
            yield
        finally:
            over.set()
            swayed.result()
            load(lab, BUSY, 0.0)


def standing(daemon: Daemon, lab: Lab, guest: str) -> dict[Resource, Any]:
    """What the journal says of a guest, by resource; a guest without a decision has nothing."""
    done = daemon.call("explain", lab.domain(guest), "--json")
    if done.returncode:
        # One that was killed before it began has no journal yet.
        nothing = ("has no decision", "there is no journal there")
        assert any(text in done.stderr for text in nothing), f"the journal can be read: {done.stderr}"
        return {}
    return {Resource(d["resource"]): d for d in json.loads(done.stdout)}


def undone(told: Any) -> str:
    """Why a resource is as it was, by the journal; empty where it is as decided."""
    if told["restored"] is not None:
        return str(told["restored"]["why"])
    reason = str((told["outcome"] or {}).get("reason", ""))
    return reason if reason.startswith("put back") else ""


def unexplained(daemon: Daemon, lab: Lab, held: Held, before: Held) -> list[str]:
    """Guests that are neither as they were nor as the journal says that they were set or being set."""
    strange = []
    for guest in {guest for guest, _ in held}:
        said = standing(daemon, lab, guest)
        for resource in (r for g, r in held if g == guest):
            now, was, told = held[guest, resource], before[guest, resource], said.get(resource)
            decided: set[float] = set()
            if told is not None and not undone(told):
                decided = {told["granted"], told["outcome"] and told["outcome"]["amount"]} - {None}
            elif told is not None and told["restored"] and told["in_force_at"] >= told["restored"]["at"]:
                decided = {told["granted"]}  # decided anew since, and killed before the outcome was written down
            moving = resource is Resource.MEMORY and any(min(a, was) <= now <= max(a, was) for a in decided)
            if now != was and not moving and not any(now == pytest.approx(a, rel=0.01, abs=0.01) for a in decided):
                strange.append(f"{guest} {resource}: holds {now}, had {was}; the journal: {told}")
    return strange


def test_kills_at_random_moments(lab: Lab, daemon: Daemon, held: Ask, before: Held) -> None:
    """Every second one with a watchdog beside the daemon; after the others the next start puts back."""
    chance, took, changed = random.Random(SEED), [], 0
    with swaying(lab):
        for kill in range(KILLS):
            watched = kill % 2 == 0
            daemon.start("enforce")
            if chance.random() < IN_THE_MIDDLE_SHARE:
                daemon.until_it_has_changed_something(held, before)
                pass_time(chance.uniform(0.0, MIDDLE_SECONDS))
            else:
                pass_time(chance.uniform(0.0, START_SECONDS))
            daemon.end(signal.SIGKILL)
            changed += held() != before
            if watched:
                with daemon.watched():
                    took.append(daemon.until_all_is_back(held, before))
            else:
                assert unexplained(daemon, lab, held(), before) == []
    print(f"changed when it was killed: {changed} of {KILLS}; back after {sorted(round(t, 1) for t in took)} s")
    assert changed >= KILLS / 3
    daemon.ask("restore")
    daemon.until_all_is_back(held, before)
    assert list((daemon.state / "originals").glob("*.json")) == []
    assert unexplained(daemon, lab, held(), before) == []


def test_a_watchdog_beside_the_daemon_leaves_a_word_in_the_journal(
    lab: Lab, daemon: Daemon, held: Ask, before: Held
) -> None:
    with daemon.watched():
        daemon.start("enforce")
        daemon.until_it_has_changed_something(held, before)
        changed = next(guest for (guest, r), amount in held().items() if amount != before[guest, r])
        daemon.end(signal.SIGKILL)
        daemon.until_all_is_back(held, before)
        told = {"by the watchdog: no daemon runs"}
        daemon.until(lambda: {undone(d) for d in standing(daemon, lab, changed).values()} == told, "the word is left")
    daemon.start("observe")
    daemon.until(lambda: daemon.ask("status")["cycles"], "a cycle")
    assert {undone(d) for d in standing(daemon, lab, changed).values()} == told


def test_a_libvirtd_that_is_restarted(lab: Lab, daemon: Daemon, held: Ask, before: Held) -> None:
    daemon.start("enforce")
    daemon.until_it_has_changed_something(held, before)
    lab.restart_daemon()
    cycles = daemon.ask("status")["cycles"]
    daemon.until(lambda: daemon.ask("status")["cycles"] > cycles + 2 and not daemon.ask("status")["lost"], "contact")
    assert daemon.end() == 0
    assert held() == before


def test_a_guest_that_is_killed_and_started_anew(lab: Lab, daemon: Daemon, held: Ask, before: Held) -> None:
    daemon.start("enforce")
    daemon.until(lambda: lab.domain(BUSY) in daemon.ask("status")["altered"], "a change to the guest")
    os.kill(next(row["pid"] for row in lab.status() if row["guest"] == BUSY), signal.SIGKILL)
    daemon.until(lambda: lab.domain(BUSY) not in daemon.ask("status")["altered"], "nothing is kept of it")
    assert daemon.ask("status")["fault"] == ""
    said = standing(daemon, lab, BUSY)
    assert said
    assert all(map(undone, said.values())), said
    lab.up((BUSY,))
    lab.wait(PATIENCE_SECONDS)
    load(lab, BUSY, 0.0)
    daemon.until(lambda: held()[BUSY, Resource.CPU] < before[BUSY, Resource.CPU], "it is looked after again")
    assert daemon.end() == 0
    assert held() == before


def test_a_guest_that_is_undefined_and_gone(lab: Lab, daemon: Daemon, held: Ask, before: Held) -> None:
    daemon.start("enforce")
    daemon.until(lambda: lab.domain(BUSY) in daemon.ask("status")["altered"], "a change to the guest")
    connection = libvirt_module().open(lab.uri)
    domain = connection.lookupByName(lab.domain(BUSY))
    domain.destroy()
    domain.undefine()
    connection.close()
    daemon.until(lambda: lab.domain(BUSY) not in daemon.ask("status")["altered"], "nothing is kept of it")
    daemon.until(lambda: all(vm["vm_id"] != lab.domain(BUSY) for vm in daemon.ask("vms")), "it is not shown any more")
    assert daemon.ask("status")["fault"] == ""
    assert daemon.end() == 0
    assert held() == {key: amount for key, amount in before.items() if key[0] != BUSY}


def test_a_guest_that_reboots(lab: Lab, daemon: Daemon, held: Ask, before: Held) -> None:
    cpu = BUSY, Resource.CPU
    daemon.start("enforce")
    daemon.until(lambda: held()[cpu] < before[cpu], "a change to the guest")
    with lab.link(BUSY) as link:
        said = link.fresh(PATIENCE_SECONDS)["uptime_seconds"]
        link.send({"reboot": True})
        link.wait(lambda report: report["uptime_seconds"] < said, PATIENCE_SECONDS)
    daemon.until(lambda: unexplained(daemon, lab, held(), before) == [], "it is as decided, or as it was")
    cycles = daemon.ask("status")["cycles"]
    daemon.until(lambda: daemon.ask("status")["cycles"] > cycles + 2, "the loop goes on")
    assert daemon.end() == 0
    daemon.until_all_is_back(held, before)


def test_a_guest_that_is_paused(lab: Lab, daemon: Daemon, held: Ask, before: Held) -> None:
    """It gives no samples: what it was given runs out with the lease."""
    cpu = BUSY, Resource.CPU
    daemon.start("enforce")
    daemon.until(lambda: held()[cpu] < before[cpu], "a change to the guest")
    connection = libvirt_module().open(lab.uri)
    domain = connection.lookupByName(lab.domain(BUSY))
    domain.suspend()
    try:
        daemon.until(lambda: held()[cpu] == before[cpu], "its CPU back", LEASE_SECONDS + 10.0)
        assert "not renewed" in undone(standing(daemon, lab, BUSY)[Resource.CPU])
    finally:
        domain.resume()
        connection.close()
    daemon.until(lambda: held()[cpu] < before[cpu], "it is looked after again")
    assert daemon.end() == 0
    daemon.until_all_is_back(held, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for the state, which can be filled."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "state", place], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(place: Path) -> Path:
    """Take all the room that there is, and say where it went."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 65536):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk has no end")


def test_a_disk_that_is_full(lab: Lab, tmp_path: Path, small_disk: Path, held: Ask, before: Held) -> None:
    """Nothing is changed of which nothing can be kept; with room again the loop goes on."""
    daemon = Daemon(lab, tmp_path, small_disk / "state")
    daemon.start("enforce")
    try:
        daemon.until_it_has_changed_something(held, before)
        filler = fill(small_disk)
        daemon.until_all_is_back(held, before)
        assert daemon.runs, daemon.log.read_text()[-2000:]
        filler.unlink()
        daemon.until_it_has_changed_something(held, before)
    finally:
        code = daemon.end()
    assert code == 0, daemon.log.read_text()[-2000:]
    daemon.until_all_is_back(held, before)
    assert list((daemon.state / "originals").glob("*.json")) == []


def test_a_store_that_another_process_has_open(lab: Lab, daemon: Daemon, held: Ask, before: Held) -> None:
    daemon.start("observe")
    daemon.until(lambda: daemon.ask("status")["cycles"], "a cycle")
    assert daemon.end() == 0
    holder = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", holder, str(daemon.state / "forestall.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        daemon.start("enforce")
        assert daemon.process is not None
        assert daemon.process.wait(PATIENCE_SECONDS) == 1
        assert "forestall.duckdb" in daemon.log.read_text().splitlines()[-1]
        pass_time(2 * STEP_SECONDS)
        assert held() == before
    finally:
        other.communicate()
