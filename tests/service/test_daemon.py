"""The daemon as a process: it stops cleanly, it dies badly, and either way every VM is as it was."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Site, end, wait_until

from forestall.adapters.duckdb.journal import DuckdbJournal
from forestall.service.control import ask
from repeats import times

KILLS = times(6, 20)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_puts_everything_back(site: Site, number: int) -> None:
    daemon = site.daemon()
    wait_until(lambda: len(site.altered()) >= 3, "VMs are changed")
    assert set(site.altered()) <= set(site.originals())
    code, text = end(daemon, number)
    assert code == 0, text
    assert text.splitlines()[-1] == "forestall: every VM is as it was"
    assert site.altered() == {}
    assert site.originals() == []
    assert not (site.state / "forestall.sock").exists()


def test_a_second_daemon_is_refused_with_one_line(site: Site) -> None:
    daemon = site.daemon()
    wait_until(lambda: ask(site.state, {"command": "status"}), "the daemon answers")
    second = site.call("run", "--connect", site.connect)
    assert second.returncode == 1
    assert second.stderr.strip() == (
        f"forestall: {site.state}: is in use by process {daemon.pid}; one daemon runs on a state folder"
    )
    direct = site.call("watchdog", "--connect", site.connect, "--once")
    assert (direct.returncode, direct.stderr) == (0, "")
    assert end(daemon)[0] == 0


def test_the_command_line_of_a_running_daemon(site: Site) -> None:
    daemon = site.daemon()
    wait_until(lambda: len(site.altered()) == 6, "VMs are changed")
    status = json.loads(site.call("status", "--json").stdout)
    assert (status["mode"], status["fault"], status["pid"]) == ("enforce", "", daemon.pid)
    assert status["lead_seconds"] == {}, "a simulated host does not measure"
    vms = json.loads(site.call("vms", "--json").stdout)
    assert len(vms) == 12
    assert {"demand", "in_force", "limit", "quantiles", "risk", "mode", "ruling", "reason"} <= vms[0].keys()
    assert vms[0]["quantiles"].keys() == {"p50", "p95", "p99"}
    name = vms[0]["vm_id"]
    (cpu, memory) = json.loads(site.call("explain", name, "--json").stdout)
    assert (cpu["resource"], memory["resource"]) == ("cpu", "memory")
    assert "arbiter" in cpu["reason"]
    for words in (("status",), ("vms",), ("explain", name)):
        shown = site.call(*words)
        assert (shown.returncode, shown.stderr) == (0, "")
    restored = json.loads(site.call("restore", name, "--json").stdout)
    assert restored == {"restored": [name], "left": []}
    cycles = ask(site.state, {"command": "status"})["cycles"]
    wait_until(lambda: ask(site.state, {"command": "status"})["cycles"] > cycles + 3, "cycles pass")
    assert name not in site.altered()
    assert ask(site.state, {"command": "status"})["kept_back"] == [name]
    assert "resumed" in site.call("restore", "--resume", "--json").stdout
    wait_until(lambda: name in site.altered(), "it is changed again")
    unknown = site.call("restore", "nobody")
    assert unknown.returncode == 2
    assert unknown.stderr == "forestall: no VM named 'nobody' is known here\n"
    assert end(daemon)[0] == 0


def test_without_a_daemon_the_journal_is_read(site: Site) -> None:
    site.call("run", "--connect", site.connect, "--mode", "advise", "--cycles", "8")
    found = site.call("explain", "vm-1", "--json")
    assert "arbiter" in json.loads(found.stdout)[0]["reason"]
    nobody = site.call("explain", "nobody")
    assert nobody.returncode == 2
    assert nobody.stderr.count("\n") == 1
    none = site.call("status")
    assert (none.returncode, none.stderr) == (1, f"forestall: {site.state}: no daemon runs there\n")


def test_restore_with_a_dead_daemon(site: Site) -> None:
    daemon = site.daemon()
    wait_until(lambda: len(site.altered()) >= 3, "VMs are changed")
    end(daemon, signal.SIGKILL)
    assert site.altered()
    damaged = site.state / "originals" / "gone.json"
    damaged.write_text("{")
    first = sorted(site.altered())[0]
    assert site.call("restore", first, "--connect", site.connect).stdout == f"put back: {first}\n"
    result = site.call("restore", "--connect", site.connect)
    assert result.returncode == 0, result.stderr
    assert "gone.json: is damaged" in result.stderr
    assert site.altered() == {}
    assert site.originals() == ["gone"]
    damaged.unlink()
    assert site.call("restore", "--connect", site.connect).stdout == "nothing was changed\n"


@pytest.mark.slow
def test_killed_at_random_moments_a_watchdog_puts_everything_back(site: Site) -> None:
    moments = random.Random(4)
    watchdog = site.start("watchdog", "--connect", site.connect)
    took = []
    for _ in range(KILLS):
        daemon = site.daemon()
        wait_until(site.altered, "VMs are changed")
        time.sleep(moments.uniform(0.0, 1.5))
        end(daemon, signal.SIGKILL)
        died = time.monotonic()
        left = site.altered()
        assert set(left) <= set(site.originals()), "nothing is changed before how it was is on the disk"
        wait_until(lambda: not site.originals(), "the watchdog has put everything back")
        took.append(time.monotonic() - died)
        assert site.altered() == {}
        journal = DuckdbJournal(site.state / "forestall.duckdb")
        told = {d.vm_id for d in journal.decisions() if "arbiter: " in d.reason}
        journal.close()
        assert set(left) <= told, "the journal tells why each was changed"
    assert end(watchdog)[0] == 0
    assert max(took) < 10.0, "within the lease"
    print(f"put back after {KILLS} kills: median {sorted(took)[KILLS // 2]:.2f} s, longest {max(took):.2f} s")


def test_a_daemon_that_hangs_is_put_back_by_the_watchdog(site: Site) -> None:
    daemon = site.daemon()
    wait_until(lambda: len(site.altered()) >= 3, "VMs are changed")
    site.hang(daemon)
    try:
        (site.state / "heartbeat.json").write_text(
            json.dumps({"pid": daemon.pid, "boottime": 0.0, "lease_seconds": 1, "mode": "enforce"})
        )
        once = site.call("watchdog", "--connect", site.connect, "--once")
        assert once.returncode == 0, once.stderr
        assert "the last heartbeat is" in once.stderr
        assert site.altered() == {}
    finally:
        daemon.send_signal(signal.SIGCONT)
    assert end(daemon)[0] == 0
    assert site.altered() == {}
    assert site.originals() == []


def test_a_daemon_that_crashes_again_and_again_observes(tmp_path: Path) -> None:
    with Site(tmp_path, crashes=2) as site:
        for _ in range(2):
            daemon = site.daemon()
            wait_until(lambda: ask(site.state, {"command": "status"}), "the daemon answers")
            end(daemon, signal.SIGKILL)
        _, text = site.daemon("enforce", "--cycles", "10").communicate()
    assert "starts in observe: 2 unclean ends within the hour" in text
    assert site.altered() == {}


def test_policies_are_read_anew_and_a_wrong_file_changes_nothing(site: Site, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("")
    settings = tmp_path / "forestall.toml"
    settings.write_text(f"policies = {str(policy)!r}\n" + settings.read_text())
    daemon = site.daemon()
    wait_until(lambda: len(site.altered()) == 6, "VMs are changed")
    policy.write_text('[[rule]]\nname = "all"\nfloor_ratio = 1.0\nresources = ["cpu"]\n')
    daemon.send_signal(signal.SIGHUP)

    def full() -> bool:
        vms = ask(site.state, {"command": "vms"})
        return all(vm["in_force"] == vm["limit"] for vm in vms if vm["resource"] == "cpu" and vm["limit"])

    wait_until(full, "every VM has all of its CPU")
    policy.write_text("nonsense")
    daemon.send_signal(signal.SIGHUP)
    cycles = ask(site.state, {"command": "status"})["cycles"]
    wait_until(lambda: ask(site.state, {"command": "status"})["cycles"] > cycles + 3, "cycles pass")
    assert full()
    code, text = end(daemon)
    assert (code, "policies stay as they were" in text) == (0, True)


def test_on_the_systems_clock_cycles_keep_their_cadence(site: Site) -> None:
    connect = site.connect.removesuffix("?clock=virtual")
    result = site.call("run", "--connect", connect, "--mode", "observe", "--cycles", "5")
    assert result.returncode == 0, result.stderr
    started = time.time()
    result = site.call("run", "--connect", connect, "--mode", "observe", "--cycles", "3")
    assert time.time() - started > 2.0
    assert "learned from" in result.stderr


def test_what_is_wrong_is_said_in_one_line(site: Site) -> None:
    for words, code in (
        (("run", "--connect", "simulated:missing.parquet"), 2),
        (("run", "--connect", site.connect, "--mode", "always"), 2),
        (("run", "--connect", site.connect + "&speed=3"), 2),
        (("explain", "vm-1", "--from", "nowhere"), 2),
        (("restore", "nobody", "--connect", site.connect), 2),
        (("restore", "--resume"), 2),
    ):
        result = site.call(*words)
        assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
