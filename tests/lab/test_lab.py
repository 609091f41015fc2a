"""Two real guests: they report, they work, they obey, and nothing of them stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forestall.lab import leftovers
from forestall.lab.daemon import connect
from forestall.lab.guest_link import GuestLink
from forestall.lab.plan import MIB, Pace
from forestall.lab.site import Lab
from forestall.model.errors import HypervisorError

pytestmark = pytest.mark.guests
MOMENT, PATIENCE = 0.1, 60.0
"""Seconds between two looks, and until a condition is given up: guests may be slow, and the host busy."""


@pytest.fixture(scope="module")
def lab(new_lab: Lab) -> Iterator[Lab]:
    """A lab of two guests, which the tests of this module share."""
    with new_lab as lab:
        lab.up(("web", "batch"), pace=Pace(day_seconds=600))
        lab.wait(PATIENCE * 2)
        yield lab
    assert _traces(lab) == []


@pytest.fixture
def web(lab: Lab) -> Iterator[GuestLink]:
    """A line to a guest at rest; what was set by hand is taken back."""
    with lab.link("web") as link:
        link.ask({"load": 0}, PATIENCE)
        yield link
        link.ask({"load": None, "memory": None}, PATIENCE)


def _until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {PATIENCE:.0f} s"
        time.sleep(MOMENT)


def _traces(lab: Lab) -> list[str]:
    """Everything that there is of a lab on the host."""
    processes = [
        folder.name
        for folder in Path("/proc").glob("[0-9]*")
        if (command := folder / "cmdline").exists() and str(lab.place.folder) in command.read_text(errors="replace")
    ]
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/machine/*{lab.place.name}*")]
    files = [str(path) for path in (lab.place.folder, lab.place.namespace_path) if path.exists()]
    return processes + groups + files


def _busy_seconds(report: dict) -> float:
    """CPU time that a guest has used by a report."""
    cpu = report["cpu_seconds"]
    return sum(cpu.values()) - cpu["idle"] - cpu["iowait"] - cpu["steal"]


def _busy_cores(link: GuestLink, seconds: float) -> float:
    """Cores that a guest uses over about so many seconds."""
    first = link.fresh(PATIENCE)
    last = link.wait(lambda report: report["uptime_seconds"] >= first["uptime_seconds"] + seconds, PATIENCE)
    return (_busy_seconds(last) - _busy_seconds(first)) / (last["uptime_seconds"] - first["uptime_seconds"])


def test_load_set_by_hand_is_work_done_over_the_network(web: GuestLink) -> None:
    before = web.fresh(PATIENCE)
    assert before["load"] == {"level": 0, "by_hand": True}
    web.ask({"load": 1.0}, PATIENCE)
    after = web.wait(lambda report: report["work"]["done"] >= before["work"]["done"] + 40, PATIENCE, "no work done")
    assert after["load"] == {"level": 1.0, "by_hand": True}
    assert after["work"]["latency_seconds"] > 0
    assert after["network_bytes"]["sent"] - before["network_bytes"]["sent"] > 40 * 2048


def test_load_set_by_hand_is_use_of_the_cpu(lab: Lab) -> None:
    with lab.link("batch") as batch:
        batch.ask({"load": 0}, PATIENCE)
        idle_cores = _busy_cores(batch, 3)
        batch.ask({"load": 1.0}, PATIENCE)
        _until(lambda: _busy_cores(batch, 3) > idle_cores + 0.3, f"more than {idle_cores:.2f} + 0.3 cores")
        batch.ask({"load": None}, PATIENCE)


def test_memory_held_by_hand_is_not_available_and_comes_back(web: GuestLink) -> None:
    amount = 100 * MIB
    before = web.fresh(PATIENCE)["memory_bytes"]["available"]
    web.ask({"memory": amount}, PATIENCE)
    web.wait(lambda report: report["memory_bytes"]["available"] < before - 0.8 * amount, PATIENCE, "nothing held")
    web.ask({"memory": None}, PATIENCE)
    web.wait(lambda report: report["memory_bytes"]["available"] > before - 0.3 * amount, PATIENCE, "nothing let go")


def test_a_cpu_can_be_switched_off_and_on(web: GuestLink) -> None:
    assert web.ask({"offline": 1}, PATIENCE) == {"offline": [0]}
    web.wait(lambda report: report["cpus_online"] == [0], PATIENCE)
    assert web.ask({"online": 1}, PATIENCE) == {"online": [0, 1]}


def test_a_wrong_command_is_refused_and_harms_nothing(web: GuestLink) -> None:
    for wrong in ({"dance": 1}, {"load": "high"}, {"offline": 0}, {"memory": "all"}):
        with pytest.raises(HypervisorError, match="Error"):
            web.ask(wrong, PATIENCE)
    web._socket.sendall(b"\xff\xfe{nonsense\n" + b"x" * 200_000 + b"\n")
    assert web.ask({"ping": "still here"}, PATIENCE) == {"ping": "still here"}


def test_a_hot_plugged_cpu_works_at_once_and_memory_follows_the_balloon(lab: Lab) -> None:
    connection = connect(lab.place)
    try:
        domain = connection.lookupByName(lab.domain("batch"))
        with lab.link("batch") as batch:
            assert batch.fresh(PATIENCE)["cpus_online"] == [0]
            domain.setVcpus(2)
            batch.wait(lambda report: report["cpus_online"] == [0, 1], PATIENCE, "the new CPU does not work")
            total = batch.fresh(PATIENCE)["memory_bytes"]["total"]
            domain.setMemory(domain.maxMemory() - 64 * 1024)
            batch.wait(lambda report: report["memory_bytes"]["total"] <= total - 60 * MIB, PATIENCE, "no balloon")
            domain.setMemory(domain.maxMemory())
            batch.wait(lambda report: report["memory_bytes"]["total"] >= total - 1 * MIB, PATIENCE, "still a balloon")
    finally:
        connection.close()


def test_guests_survive_a_restart_of_libvirtd(lab: Lab) -> None:
    pids = leftovers.guest_pids(lab.place)
    assert len(pids) == 2
    lab.restart_daemon()
    connection = connect(lab.place)
    try:
        assert {domain.name() for domain in connection.listAllDomains()} == set(map(lab.domain, pids))
        assert all(domain.isActive() for domain in connection.listAllDomains())
    finally:
        connection.close()
    assert leftovers.guest_pids(lab.place) == pids


def test_up_again_changes_nothing_and_starts_what_was_lost(lab: Lab) -> None:
    pids = leftovers.guest_pids(lab.place)
    attendant = leftovers.attendant_pids(lab.place)
    lab.up(("web",))
    assert (leftovers.guest_pids(lab.place), leftovers.attendant_pids(lab.place)) == (pids, attendant)
    assert lab.guests == ("web", "batch")
    leftovers.end(attendant)
    lab.up(("web",))
    with lab.link("web") as link:
        assert link.latest(PATIENCE)["guest"] == "web"


def test_status_tells_state_process_and_age(lab: Lab) -> None:
    command = [
        Path(sys.executable).with_name("forestall"),
        "lab",
        "status",
        "--folder",
        str(lab.place.folder),
        "--json",
    ]
    _until(lambda: all((row["report_age_seconds"] or 99) < 10 for row in lab.status()), "no fresh reports")
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said["uri"] == lab.uri
    assert {row["guest"]: row["pid"] for row in said["guests"]} == leftovers.guest_pids(lab.place)
    assert {row["state"] for row in said["guests"]} == {"running"}


def test_down_after_a_crash_of_everything_leaves_nothing(lab: Lab) -> None:
    """Last of this module: libvirtd and the attendant are killed outright, and a guest is left without them."""
    leftovers.end(leftovers.attendant_pids(lab.place))
    leftovers.end(leftovers.daemon_pids(lab.place))
    assert leftovers.guest_pids(lab.place)
    Lab(lab.place.folder).down()
    assert _traces(lab) == []
    Lab(lab.place.folder).down()
    assert lab.status() == []
