from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path

import pytest

from forestall.adapters.linux.cgroups import ControlGroups, Throttling
from forestall.adapters.linux.proc import Processes, ScheduleTime

SCOPE = "machine.slice/machine-qemu\\x2d1\\x2da.scope/libvirt"
V2 = {"": f"/{SCOPE}/emulator"}
V1 = dict.fromkeys(("cpu", "memory"), "/machine/qemu-1-a.libvirt-qemu/emulator") | {"cpuacct": "/", "": "/x"}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def version_2(root: Path) -> None:
    folder = root / SCOPE
    write(folder / "cgroup.controllers", "cpuset cpu io memory pids\n")
    write(
        folder / "cpu.stat", "usage_usec 2500000\nuser_usec 1\nnr_periods 40\nnr_throttled 10\nthrottled_usec 1500000\n"
    )
    write(folder / "cpu.max", "12000 250000\n")
    write(folder / "vcpu0/cpu.stat", "usage_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n")
    write(folder / "memory.current", "123456\n")


def test_version_2(tmp_path: Path) -> None:
    version_2(tmp_path)
    groups = ControlGroups(tmp_path)
    assert groups.folder("cpu", V2) == tmp_path / SCOPE
    assert groups.cpu_seconds(V2) == 2.5
    assert groups.throttling(V2) == Throttling(10, 0.25)
    assert groups.memory_bytes(V2) == 123456


def test_version_2_without_the_controller_is_not_believed(tmp_path: Path) -> None:
    version_2(tmp_path)
    write(tmp_path / SCOPE / "cgroup.controllers", "pids\n")
    groups = ControlGroups(tmp_path)
    assert groups.folder("cpu", V2) is None
    assert groups.cpu_seconds(V2) is None
    assert groups.throttling(V2) is None
    assert groups.memory_bytes(V2) is None


def test_version_1(tmp_path: Path) -> None:
    vm = "machine/qemu-1-a.libvirt-qemu"
    write(tmp_path / "cpu" / vm / "cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")
    write(tmp_path / "cpu" / vm / "vcpu0/cpu.stat", "nr_periods 8\nnr_throttled 2\nthrottled_time 500000000\n")
    write(tmp_path / "cpu" / vm / "vcpu1/cpu.stat", "nr_periods 8\nnr_throttled 4\nthrottled_time 900000000\n")
    write(tmp_path / "cpu" / vm / "vcpu1/cpu.cfs_period_us", "500000\n")
    write(tmp_path / "memory" / vm / "memory.usage_in_bytes", "77\n")
    groups = ControlGroups(tmp_path)
    assert groups.throttling(V1) == Throttling(4, 0.5)
    assert groups.memory_bytes(V1) == 77
    assert groups.cpu_seconds(V1) is None
    write(tmp_path / "cpuacct" / vm / "cpuacct.usage", "3000000000\n")
    assert groups.cpu_seconds(V1 | {"cpuacct": f"/{vm}"}) == 3.0


def test_the_share_of_time_in_which_a_vm_was_held_back() -> None:
    before = Throttling(4, 0.5)
    assert Throttling(9, 0.5).share_since(before, 10.0) == 0.25
    assert before.share_since(before, 10.0) == 0.0
    assert Throttling(40, 0.5).share_since(before, 10.0) == 1.0
    assert math.isnan(Throttling(3, 0.5).share_since(before, 10.0))
    assert math.isnan(Throttling(9, 0.5).share_since(before, 0.0))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(tmp_path / "sys/kernel/random/boot_id", "b00t\n")
    write(tmp_path / "41/cmdline", "qemu\0-name\0guest=a\0-uuid\0aaaa\0")
    write(tmp_path / "42/cmdline", "vi\0-uuid")
    fields = " ".join(str(n) for n in range(3, 53))
    write(tmp_path / "41/stat", f"41 (a name) with) {fields}\n")
    write(tmp_path / "41/cgroup", "9:name=systemd:/\n2:cpu,cpuacct:/machine/a/vcpu0\n0::/machine/b:c\n")
    write(tmp_path / "41/task/41/comm", "qemu\n")
    write(tmp_path / "41/task/43/comm", "CPU 0/KVM\n")
    write(tmp_path / "41/task/43/schedstat", "2500000000 500000000 7\n")
    write(tmp_path / "41/task/44/comm", "CPU 12/TCG\n")
    write(tmp_path / "41/task/44/schedstat", "1 2 3\n")
    return tmp_path


def test_processes_of_vms(proc: Path) -> None:
    processes = Processes(proc)
    assert processes.of_vms(["aaaa", "bbbb"]) == {"aaaa": 41}
    assert processes.of_vms([]) == {}
    assert processes.birth(41) == "b00t/22"
    assert processes.birth(4711) == ""
    cgroups = {"name=systemd": "/", "cpu": "/machine/a/vcpu0", "cpuacct": "/machine/a/vcpu0", "": "/machine/b:c"}
    assert processes.control_groups(41) == cgroups
    assert processes.control_groups(4711) == {}
    assert processes.vcpu_times(41) == {0: ScheduleTime(2.5, 0.5), 12: ScheduleTime(1e-9, 2e-9)}
    assert processes.vcpu_times(4711) == {}


def test_who_only_says_that_it_is_a_vm_is_not_believed(proc: Path) -> None:
    def claims(pid: int, user: int) -> None:
        write(proc / f"{pid}/cmdline", "sh\0-uuid\0aaaa\0")
        write(proc / f"{pid}/status", f"Name:\tsh\nUid:\t{user}\t0\t0\t0\n")

    write(proc / "41/status", "Name:\tqemu\nUid:\t64055\t64055\t64055\t64055\n")
    for pid, user in ((43, 1000), (45, 100_000)):
        claims(pid, user)
    assert Processes(proc).of_vms(["aaaa"]) == {"aaaa": 41}
    claims(44, 0)
    assert Processes(proc).of_vms(["aaaa"]) == {}


def test_our_own_process_on_the_real_tree() -> None:
    processes = Processes()
    assert processes.birth(os.getpid()) == processes.birth(os.getpid()) != processes.birth(1)
    assert processes.control_groups(os.getpid())
    assert processes.network_namespace(os.getpid()) is None


def test_a_process_that_nobody_has_buried_is_gone() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as ended:
        assert Processes().birth(ended.pid)
        ended.kill()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{ended.pid}").exists()
        assert Processes().birth(ended.pid) == ""


def test_a_group_on_the_real_tree_of_version_1() -> None:
    root = Path("/sys/fs/cgroup/cpu")
    if not (root / "cpu.cfs_quota_us").exists() and not list(root.glob("*/cpu.cfs_quota_us")):
        pytest.skip("no cgroups of version 1 with the cpu controller here")
    folder = root / f"fs-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made: {error}")
    try:
        seen = ControlGroups().throttling({"cpu": f"/{folder.name}/vcpu0"})
        assert seen == Throttling(0, 0.1)
    finally:
        folder.rmdir()
