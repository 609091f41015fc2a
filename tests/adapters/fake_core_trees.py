"""Made-up trees of ``/proc`` and of control groups: the files of a few processes, without a kernel behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

BOOT = "b00t-1d"
V1_CPU = {
    "cpu.cfs_quota_us": "-1",
    "cpu.cfs_period_us": "100000",
    "cpu.cfs_burst_us": "0",
    "cpu.shares": "1024",
    "cpu.idle": "0",
}
V2_CPU = {
    "cgroup.controllers": "cpuset cpu io memory pids",
    "cpu.max": "max 100000",
    "cpu.max.burst": "0",
    "cpu.weight": "100",
    "cpu.idle": "0",
    "cpuset.cpus": "",
    "cpuset.cpus.effective": "0-3",
}
INNER = ("emulator", "vcpu0", "vcpu1")


def line(path: Path) -> str:
    """First line of a file, which is all that a kernel would show of it."""
    return path.read_text("ascii").split("\n", 1)[0]


@dataclass
class FakeTrees:
    """A host of four CPUs, whose groups are of version 1 or 2."""

    root: Path
    version: int
    ticks: dict[int, int] = field(default_factory=dict)

    @property
    def proc(self) -> Path:
        """Its ``/proc``."""
        return self.root / "proc"

    @property
    def groups(self) -> Path:
        """Where its trees of groups are."""
        return self.root / "cgroup"

    def begin(self) -> FakeTrees:
        """Lay the files of the host itself."""
        self._write(self.proc / "sys/kernel/random/boot_id", BOOT)
        tree = self.groups / "cpuset" if self.version == 1 else self.groups
        self._write(tree / ("cpuset.cpus" if self.version == 1 else "cpuset.cpus.effective"), "0-3")
        return self

    def group(self, name: str, tree: str = "cpu") -> Path:
        """Folder of a VM's own group."""
        inside = f"machine/{name}"
        return self.groups / tree / inside if self.version == 1 else self.groups / inside

    def vm(self, name: str, pid: int, *, vcpus: int = 2, start: int = 1000) -> None:
        """Make a VM with threads of vCPUs and one other, in groups as libvirt makes them."""
        for inner in ("", *INNER[: vcpus + 1]):
            self._cpu_group(name, inner, pid)
        where = f"/machine/{name}/emulator"
        names = f"2:cpu,cpuacct:{where}\n3:cpuset:{where}" if self.version == 1 else f"0::{where}"
        self._write(self.proc / f"{pid}/cgroup", names)
        self.birth(pid, start)
        self.thread(pid, pid, "qemu-system-x86")
        for i in range(vcpus):
            self.thread(pid, pid + 1 + i, f"CPU {i}/KVM")
        self.tick(name, pid, 0)

    def birth(self, pid: int, start: int, state: str = "S") -> None:
        """Say when a process began, and in which state it is; minor and major faults are 70 and 7 as it begins."""
        fields = [state, *(str(n) for n in range(4, 53))]
        fields[10 - 3], fields[12 - 3], fields[22 - 3] = str(70), str(7), str(start)
        self._write(self.proc / f"{pid}/stat", f"{pid} (a (name) x) {' '.join(fields)}")

    def thread(self, pid: int, thread: int, name: str, schedstat: str = "0 0 0") -> None:
        """Add a thread."""
        self._write(self.proc / f"{pid}/task/{thread}/comm", name)
        self._write(self.proc / f"{pid}/task/{thread}/schedstat", schedstat)

    def tick(self, name: str, pid: int, ticks: int = 1) -> None:
        """Let a VM run for some hundredths of a second: on each thread 10 ms run, 1 ms waited, 3 runs."""
        count = self.ticks[pid] = self.ticks.get(pid, 0) + ticks
        for path in self.proc.glob(f"{pid}/task/*/schedstat"):
            self._write(path, f"{count * 10**7} {count * 10**6} {count * 3}")
        words = f"rchar: 1\nwchar: 2\nsyscr: {count * 5}\nsyscw: {count * 2}\nread_bytes: 9"
        self._write(self.proc / f"{pid}/io", words)
        if self.version == 1:
            self._write(self.group(name, "cpuacct") / "cpuacct.usage", str(count * 3 * 10**7))
        else:
            self._write(self.group(name) / "cpu.stat", f"usage_usec {count * 30_000}\nuser_usec 1\nsystem_usec 2")

    def _cpu_group(self, name: str, inner: str, pid: int) -> None:
        tree, files = self.group(name) / inner, V1_CPU if self.version == 1 else V2_CPU
        for file, text in files.items():
            self._write(tree / file, text)
        self._write(tree / "cgroup.procs", str(pid) if inner == "emulator" else "")
        if self.version == 1:
            (self.group(name, "cpuacct") / inner).mkdir(parents=True, exist_ok=True)
            self._write(self.group(name, "cpuset") / inner / "cpuset.cpus", "0-3")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        """Write in place: what has the file open sees it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", "ascii")
