"""What runs inside a guest, as far as it can be tried outside of one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from forestall.guest.cpus import cpus_online, set_cpu_online
from forestall.guest.ports import find_port
from forestall.lab.guest import curve, facts, worker
from forestall.lab.guest.arrivals import Arrivals
from forestall.lab.guest.worker import Worklog
from forestall.lab.plan import GUESTS

FILES = {
    "proc/stat": "cpu  100 200 300 400 500 600 700 800 0 0\ncpu0 1 2 3 4\n",
    "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 500 kB\nCached: 300 kB\n",
    "proc/diskstats": " 254 1 vdb 1 1 1 1 1 1 1\n 254 0 vda 10 0 20 5 30 0 40 6 0 7 8\n",
    "proc/net/dev": "Inter-|\n face |\n lo: 9 9 9 9 9 9 9 9 9 9\n eth0: 11 2 0 0 0 0 0 0 22 3 0 0 0 0 0 0\n",
    "proc/pressure/cpu": "some avg10=1.50 avg60=0.00 avg300=0.00 total=2500000\n",
    "proc/cmdline": "console=ttyS0 forestall.guest=web quiet forestall.address=10.0.0.1/24\n",
    "sys/devices/system/cpu/online": "0,2-3\n",
    "sys/devices/system/cpu/cpu1/online": "0\n",
    "sys/class/virtio-ports/vport1p2/name": "org.example\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_facts_are_read_in_their_units(root: Path) -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    cpu = facts.cpu_seconds(root)
    assert cpu["user"] == pytest.approx(100 * tick)
    assert cpu["steal"] == pytest.approx(800 * tick)
    assert facts.memory_bytes(root)["available"] == 500 * 1024
    assert facts.disk_bytes(root) == {"read": 20 * 512, "written": 40 * 512}
    assert facts.network_bytes(root) == {"received": 11, "sent": 22}
    assert facts.pressure(root) == {"cpu": {"some": {"avg10_percent": 1.5, "total_seconds": 2.5}}}
    assert facts.kernel_arguments(root) == {"guest": "web", "address": "10.0.0.1/24"}
    assert cpus_online(root) == [0, 2, 3]
    assert find_port("org.example", root) == root / "dev/vport1p2"
    assert find_port("org.other", root) is None


def test_a_cpu_is_switched_only_where_there_is_a_switch(root: Path) -> None:
    set_cpu_online(1, True, root)
    assert (root / "sys/devices/system/cpu/cpu1/online").read_text() == "1"
    set_cpu_online(0, True, root)
    with pytest.raises(OSError, match="CPU 0"):
        set_cpu_online(0, False, root)


@pytest.mark.parametrize("plan", GUESTS, ids=lambda plan: plan.name)
def test_a_day_has_its_shape_and_is_the_same_each_time(plan) -> None:
    day = 600.0
    levels = [curve.level(plan.role, at, day) for at in range(0, 600, 5)]
    assert levels == [curve.level(plan.role, at, day) for at in range(0, 600, 5)]
    assert all(0 <= level <= 1 for level in levels)
    assert max(levels) > 0.6 or plan.role == "idle"
    assert min(levels) < 0.15


def test_batch_works_at_night_and_the_others_by_day() -> None:
    night, noon = 2.0, 13.0
    assert curve.shape("batch", night) > 0.9 > 0.1 > curve.shape("batch", noon)
    for role in ("web", "redis", "database"):
        assert curve.shape(role, noon) > 2 * curve.shape(role, night)


def test_a_shape_has_no_jumps() -> None:
    for role in curve.SHAPES:
        values = [curve.shape(role, hour / 20) for hour in range(480)]
        assert max(abs(a - b) for a, b in zip(values, [*values[1:], values[0]], strict=True)) < 0.08


def test_the_level_is_looked_up_now_and_then(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now, file = [10.0], tmp_path / "level"
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(worker, "LEVEL_FILE", file)
    told = worker.Told()
    assert told() == 0.0, "nothing was told yet"
    file.write_text("0.7")
    assert told() == 0.0
    now[0] += worker.LEVEL_SECONDS
    assert told() == 0.7


def test_work_arrives_at_the_rate_of_the_level_and_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    arrivals = Arrivals(10.0, 20, lambda: 0.5)
    now[0] = 2.0
    assert arrivals.next() == pytest.approx(0.2), "each at its own instant, though nobody looked"
    assert len(arrivals) == 9
    now[0] = 100.0
    assert len(arrivals) == 20, "the oldest gave up"
    assert arrivals.next() == pytest.approx(96.2)


def test_a_worklog_says_how_long_work_took_from_its_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [10.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log = Worklog(said.append)
    log.completed(arrived_at=7.5)
    log.update(queue=4)
    assert said == [{"done": 1, "latency_seconds": 2.5, "queue": 4, "backlog": True}]
