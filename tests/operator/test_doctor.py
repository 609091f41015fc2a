"""``forestall doctor`` on made-up hosts, each of which lacks something; and on the one where the tests run."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fake_host import BARE_VM, QEMU, V1_CONTROLLERS, VM, Connection, Domain, facts, good_host, put

from forestall.adapters.host_facts.examination import can_observe, examine
from forestall.adapters.host_facts.facts import ClockFacts, Reach
from forestall.adapters.host_facts.finding import Finding, Status
from forestall.adapters.host_facts.libvirt_probe import reach_of
from forestall.adapters.host_facts.reader import FactReader
from forestall.adapters.host_facts.roots import Roots
from forestall.cli import main

NO_SOCKET = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"
DENIED = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied"
NO_POLKIT = "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'"


def fails(error: Exception) -> Callable[[str], NoReturn]:
    def connect(uri: str) -> NoReturn:
        raise error

    return connect


def found(root: Path, name: str, **changes: Any) -> Finding:
    (finding,) = [f for f in examine(facts(root, **changes)) if f.name == name]
    return finding


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return good_host(tmp_path)


def test_a_good_host_lacks_nothing(root: Path) -> None:
    findings = examine(facts(root))
    assert [f for f in findings if f.status is not Status.OK] == []
    assert can_observe(findings)


def _change(root: Path, path: str, text: str | None) -> None:
    if text is not None:
        put(root / path, text)
    elif (root / path).is_dir():
        shutil.rmtree(root / path)
    else:
        (root / path).unlink()


TREES = {
    "no kvm": ("dev/kvm", None, "kvm", Status.LIMITED, "TCG only", "modprobe kvm_intel"),
    "no vmx": ("proc/cpuinfo", "flags : fpu sse\n", "kvm", Status.LIMITED, "neither vmx nor svm", "nested"),
    "no processor flags at all": ("proc/cpuinfo", "Features : fp asimd\n", "kvm", Status.OK, "can be used", ""),
    "no pressure": ("proc/pressure/cpu", None, "pressure", Status.LIMITED, "no /proc/pressure", "psi=1"),
    "no systemd": ("run/systemd/system", None, "systemd", Status.LIMITED, "does not run", "forestall watchdog"),
    "no damon": ("sys/kernel/mm/damon/admin", None, "damon", Status.LIMITED, "no /sys/kernel/mm/damon", ""),
    "no switch": ("run/openvswitch/db.sock", None, "open vswitch", Status.OK, "is not installed", ""),
    "no idle class": (
        "sys/fs/cgroup/system.slice/cpu.idle",
        None,
        "core lending",
        Status.LIMITED,
        "no cpu.idle",
        "Linux 5.15",
    ),
    "no groups yet": ("sys/fs/cgroup/system.slice", None, "core lending", Status.OK, "whole cores", ""),
    "no cgroups": ("proc/mounts", "proc /proc proc rw 0 0\n", "cgroups", Status.MISSING, "not mounted", "mount -t"),
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_that_lacks_something(name: str, root: Path) -> None:
    path, text, check, status, what, fix = TREES[name]
    _change(root, path, text)
    finding = found(root, check)
    assert finding.status is status
    assert what in finding.what
    assert fix in finding.fix
    if status is not Status.OK:
        assert finding.why


READERS: dict[str, tuple[dict[str, Any], str, Status, str, str]] = {
    "not Linux": ({"system": "Darwin"}, "kernel", Status.MISSING, "Darwin, not Linux", ""),
    "no bindings": (
        {"has_module": lambda name: name != "libvirt"},
        "libvirt-python",
        Status.MISSING,
        "not installed",
        "apt-get install libvirt-dev",
    ),
    "no pyroute2": (
        {"has_module": lambda name: name != "pyroute2"},
        "pyroute2",
        Status.LIMITED,
        "not installed",
        "pip install 'forestall[live]'",
    ),
    "bindings not importable": (
        {"connect": fails(ImportError("libvirt"))},
        "libvirt",
        Status.MISSING,
        "not asked",
        "forestall[live]",
    ),
    "libvirt does not run": (
        {"connect": fails(OSError(NO_SOCKET))},
        "libvirt",
        Status.MISSING,
        "libvirtd is installed, but does not run",
        "systemctl enable --now libvirtd",
    ),
    "libvirt is closed to root": (
        {"connect": fails(OSError(DENIED))},
        "libvirt",
        Status.MISSING,
        "is closed to root",
        "libvirtd.conf",
    ),
    "libvirt is closed": (
        {"connect": fails(OSError(DENIED)), "user": lambda: "ann"},
        "libvirt",
        Status.MISSING,
        "is closed to ann",
        "usermod -aG libvirt ann",
    ),
    "no polkit agent": (
        {"connect": fails(OSError(NO_POLKIT)), "user": lambda: "ann"},
        "libvirt",
        Status.MISSING,
        "is closed to ann",
        "usermod -aG libvirt ann",
    ),
    "wrong URI": (
        {"connect": fails(OSError("no connection driver available for foo:///"))},
        "libvirt",
        Status.MISSING,
        "no connection driver",
        "--connect",
    ),
    "kvm is closed": (
        {"may_access": lambda path, mode: path.name != "kvm", "user": lambda: "ann"},
        "kvm",
        Status.LIMITED,
        "may not be opened by ann",
        "usermod -aG kvm ann",
    ),
    "no balloon statistics": (
        {"connect": lambda uri: Connection(Domain("web", VM, {"actual": 1}), Domain("db", VM, {"usable": 1}))},
        "balloon",
        Status.LIMITED,
        "no statistics of web (1 of 2 VMs)",
        "virsh dommemstat web --period 1 --live",
    ),
    "no virtio-mem": (
        {"connect": lambda uri: Connection(Domain("db", BARE_VM, {"usable": 1}))},
        "virtio-mem",
        Status.LIMITED,
        "1 of 1 VMs have none: db",
        "virsh edit db",
    ),
    "no memfd": (
        {"connect": lambda uri: Connection(Domain("db", BARE_VM, {"usable": 1}))},
        "guest memory",
        Status.LIMITED,
        "not backed by a shared memfd: db",
        "memfd",
    ),
    "no traffic control": (
        {"traffic_trial": lambda: "HTB: (2, 'No such file or directory')"},
        "traffic control",
        Status.LIMITED,
        "HTB: (2",
        "modprobe -a ifb",
    ),
    "no namespaces": (
        {"traffic_trial": lambda: "no network namespace can be made: Operation not permitted"},
        "traffic control",
        Status.LIMITED,
        "no network namespace",
        "as root",
    ),
    "traffic control is not for everybody": (
        {"user": lambda: "ann"},
        "traffic control",
        Status.LIMITED,
        "ann may not change it",
        "as root",
    ),
    "clock": (
        {"kernel_clock": lambda: ClockFacts(False, 16.0)},
        "clock",
        Status.LIMITED,
        "is not synchronised",
        "timedatectl set-ntp true, or apt-get install chrony",
    ),
    "silent clock": ({"kernel_clock": lambda: ClockFacts(None)}, "clock", Status.LIMITED, "does not tell", ""),
    "state folder is closed": (
        {"may_access": lambda path, mode: path.name != "state", "user": lambda: "ann"},
        "state folder",
        Status.MISSING,
        "cannot be written",
        "install -d -m 0700 -o ann",
    ),
    "an ordinary user": (
        {"user": lambda: "ann"},
        "core lending",
        Status.LIMITED,
        "ann is not root",
        "as root",
    ),
    "bad configuration": (
        {"configuration_problem": "/etc/forestall/forestall.toml: line 3: unknown key 'x'"},
        "configuration",
        Status.MISSING,
        "line 3: unknown key",
        "correct that line",
    ),
}
OBSERVES_WITHOUT = {
    "pyroute2",
    "kvm",
    "balloon",
    "virtio-mem",
    "guest memory",
    "traffic control",
    "clock",
    "core lending",
}


@pytest.mark.parametrize("name", READERS)
def test_a_host_that_lacks_something(name: str, root: Path) -> None:
    changes, check, status, what, fix = READERS[name]
    finding = found(root, check, **changes)
    assert finding.status is status
    assert what in finding.what
    assert fix in finding.fix
    assert finding.why
    assert can_observe(examine(facts(root, **changes))) == (check in OBSERVES_WITHOUT)


def test_a_host_without_libvirt(root: Path) -> None:
    (root / "usr/sbin/libvirtd").unlink()
    findings = examine(facts(root, connect=fails(OSError(NO_SOCKET))))
    (finding,) = [f for f in findings if f.name == "libvirt"]
    assert (finding.what, finding.fix) == ("is not installed", "apt-get install libvirt-daemon-system")
    assert not can_observe(findings)
    assert not {"balloon", "virtio-mem", "guest memory"} & {f.name for f in findings}


@pytest.mark.parametrize(
    ("release", "fix"),
    [
        ("ID=ubuntu\nID_LIKE=debian\n", "apt-get install libvirt-daemon-system"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install libvirt"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "zypper install libvirt"),
        ("ID=arch\n", "pacman -S libvirt"),
        ("ID=plan9\n", "install libvirt"),
        ("", "install libvirt"),
    ],
)
def test_the_command_is_that_of_the_distribution(release: str, fix: str, root: Path) -> None:
    put(root / "etc/os-release", release)
    (root / "usr/sbin/libvirtd").unlink()
    assert found(root, "libvirt", connect=fails(OSError(NO_SOCKET))).fix == fix


def test_the_modular_daemon_without_systemd(root: Path) -> None:
    (root / "usr/sbin/libvirtd").rename(root / "usr/sbin/virtqemud")
    assert found(root, "libvirt", connect=fails(OSError(NO_SOCKET))).fix == "systemctl enable --now virtqemud.socket"
    shutil.rmtree(root / "run/systemd")
    assert found(root, "libvirt", connect=fails(OSError(NO_SOCKET))).fix == "virtqemud -d"


def test_a_connection_that_breaks_is_closed(root: Path) -> None:
    connection = Connection()
    connection.listAllDomains = fails(OSError("Cannot recv data: Connection reset by peer"))  # type: ignore[assignment]
    finding = found(root, "libvirt", connect=lambda uri: connection)
    assert "Connection reset" in finding.what
    assert connection.closed


@pytest.mark.parametrize(
    ("text", "daemon", "reach"),
    [
        (NO_SOCKET, "libvirtd", Reach.NOT_RUNNING),
        (NO_SOCKET, "", Reach.ABSENT),
        ("Failed to connect socket to '/run/libvirt/libvirt-sock': Connection refused", "x", Reach.NOT_RUNNING),
        (DENIED, "libvirtd", Reach.DENIED),
        ("authentication failed: access denied by policy", "", Reach.DENIED),
        ("internal error: something else", "libvirtd", Reach.FAILED),
    ],
)
def test_errors_of_libvirt(text: str, daemon: str, reach: Reach) -> None:
    assert reach_of(text, daemon) is reach


def test_cgroup_v1(root: Path) -> None:
    lines = [f"cgroup /sys/fs/cgroup/{name} cgroup rw,relatime,{name} 0 0" for name in V1_CONTROLLERS]
    put(root / "proc/mounts", "\n".join(lines) + "\n")
    group = [f"{i}:{name}:/machine/web.libvirt-qemu/emulator" for i, name in enumerate(V1_CONTROLLERS)]
    put(root / f"proc/{QEMU}/cgroup", "\n".join([*group, "9:pids:/"]) + "\n")
    read = facts(root).cgroups
    assert (read.layout, read.controllers, read.vm_pid) == ("v1", frozenset(V1_CONTROLLERS), QEMU)


def test_cgroup_hybrid(root: Path) -> None:
    put(
        root / "proc/mounts",
        "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n"
        "cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0\n",
    )
    put(root / f"proc/{QEMU}/cgroup", "2:cpu:/machine/web\n1:name=systemd:/machine/web\n0::/machine/web\n")
    put(root / "sys/fs/cgroup/unified/machine/web/cgroup.controllers", "\n")
    read = facts(root).cgroups
    assert (read.layout, read.controllers) == ("hybrid", frozenset({"cpu"}))


def test_cgroup_v2_without_the_controller(root: Path) -> None:
    for path in (root / "sys/fs/cgroup").rglob("cgroup.controllers"):
        path.write_text("memory pids\n")
    finding = found(root, "cgroups")
    assert finding.status is Status.LIMITED
    assert "v2; controllers of the VM with pid 4711: memory, pids" in finding.what
    assert "+cpu" in finding.fix
    assert "cannot be limited" in found(root, "core lending").why


def test_cgroup_v2_without_cpusets(root: Path) -> None:
    for path in (root / "sys/fs/cgroup").rglob("cgroup.controllers"):
        path.write_text("cpu memory pids\n")
    finding = found(root, "core lending")
    assert finding.status is Status.LIMITED
    assert "+cpuset" in finding.fix
    assert "whole_cores = false" in finding.fix


def test_the_idle_class_of_version_1(root: Path) -> None:
    put(root / "proc/mounts", "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n")
    assert facts(root).cgroups.idle_class is None
    put(root / "sys/fs/cgroup/cpu/machine/cpu.shares", "1024\n")
    assert facts(root).cgroups.idle_class is False
    put(root / "sys/fs/cgroup/cpu/machine/cpu.idle", "0\n")
    assert facts(root).cgroups.idle_class is True


def test_cgroups_where_no_vm_runs(root: Path) -> None:
    shutil.rmtree(root / f"proc/{QEMU}")
    finding = found(root, "cgroups")
    assert finding.status is Status.OK
    assert "of the host (no VM runs)" in finding.what


def test_little_room_for_the_store(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 30))
    finding = found(root, "state folder")
    assert finding.status is Status.LIMITED
    assert "1.0 GiB free" in finding.what


def test_a_state_folder_that_does_not_exist_yet(root: Path) -> None:
    (root / "state").rmdir()
    assert found(root, "state folder").status is Status.OK


def _lock(root: Path, name: str, kind: str, pid: int) -> None:
    path = root / "state" / name
    put(path)
    line = f"1: {kind} ADVISORY  WRITE {pid} fe:00:{path.stat().st_ino} 0 EOF\n"
    put(root / "proc/locks", "2: POSIX  ADVISORY  READ 1 fe:00:1 0 EOF\n" + line)
    put(root / f"proc/{pid}/cmdline", "python\0-m\0something\0")


def test_a_store_that_another_program_has_open(root: Path) -> None:
    _lock(root, "forestall.duckdb", "POSIX ", 815)
    finding = found(root, "store")
    assert (finding.status, finding.fix) == (Status.LIMITED, "end it: kill 815")
    assert "815 (python -m something)" in finding.what


def test_a_daemon_that_runs(root: Path) -> None:
    _lock(root, "lock", "FLOCK ", 815)
    finding = found(root, "store")
    assert finding.status is Status.OK
    assert "in use by Forestall itself, process 815" in finding.what


def test_a_real_lock_is_found_and_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        reader = FactReader(connect=lambda uri: Connection(), traffic_trial=lambda: "")
        assert reader.read("test:///default", tmp_path).state.daemon
    assert not reader.read("test:///default", tmp_path).state.daemon


def test_reading_a_host_where_there_is_nothing_at_all(tmp_path: Path) -> None:
    reader = FactReader(Roots.below(tmp_path / "none"), connect=fails(OSError(NO_SOCKET)), traffic_trial=lambda: "")
    findings = examine(reader.read("qemu:///system", tmp_path))
    assert not can_observe(findings)


def test_this_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configuration = tmp_path / "forestall.toml"
    configuration.write_text(f"state_folder = '{tmp_path}'\n")
    monkeypatch.setenv("FORESTALL_CONFIG", str(configuration))
    code = main(["doctor", "--connect", "test:///default", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == (0 if answer["can_observe"] else 1)
    assert {"kernel", "libvirt", "traffic control", "clock"} <= {f["name"] for f in answer["findings"]}
    assert main(["doctor", "--connect", "test:///default"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(answer["findings"])
    assert {line.split()[0] for line in lines} <= {"ok", "limited", "missing"}


def test_a_bad_configuration_does_not_stop_the_doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORESTALL_CONFIG", str(tmp_path / "none.toml"))
    assert main(["doctor", "--connect", "test:///default"]) == 1
    assert "none.toml: cannot be read" in capsys.readouterr().out
