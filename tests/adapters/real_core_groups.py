"""Small processes in control groups that are made for a test, of version 1 or 2, and removed whatever happens."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "cpuset")
UNIFIED = (
    "cpu" in (ROOT / "cgroup.subtree_control").read_text().split() if (ROOT / "cgroup.controllers").exists() else False
)
TREES = (ROOT,) if UNIFIED else tuple(ROOT / controller for controller in CONTROLLERS)
EASY = "import time\nwhile True:\n    sum(range(20000))\n    time.sleep(0.002)\n"
"""Wants a part of a core, again and again."""
BUSY = "while True:\n    pass\n"
_NUMBERS = itertools.count()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait on a condition, with a deadline."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"in vain: {what}"
        time.sleep(0.005)


class RealGroup:
    """A group, in each of the trees, with one process in it."""

    def __init__(self, name: str, code: str) -> None:
        self.name = name
        self.process = subprocess.Popen([sys.executable, "-S", "-c", code])
        self.pid = self.process.pid

    def make(self) -> None:
        """Make it, and put its process into it."""
        for tree in TREES:
            (tree / self.name).mkdir()
        for file in () if UNIFIED else ("cpuset.cpus", "cpuset.mems"):
            (self.cpuset / file).write_text((self.cpuset.parent / file).read_text())
        self.take(self.pid)

    def take(self, pid: int) -> None:
        """Put a process into it."""
        for tree in TREES:
            (tree / self.name / "cgroup.procs").write_text(str(pid))

    @property
    def cpu(self) -> Path:
        """Its folder in the tree of the cpu controller."""
        return TREES[0] / self.name

    @property
    def cpuset(self) -> Path:
        """Its folder in the tree of the cpuset controller."""
        return TREES[-1] / self.name

    def state(self) -> dict[str, str]:
        """How it is set."""
        first = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.shares")
        second = ("cpu.max", "cpu.max.burst", "cpu.weight")
        return {n: (self.cpu / n).read_text() for n in (*first, *second, "cpu.idle") if (self.cpu / n).exists()}

    def kill(self) -> None:
        """End its process, and have it gone."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """End its process and remove it, with the groups inside."""
        self.kill()
        for tree in TREES:
            for folder in sorted((tree / self.name).glob("**/"), reverse=True):
                wait_for(lambda folder=folder: _removed(folder), f"removing {folder}")  # type: ignore[misc]


def leave(pid: int) -> None:
    """Put a process into no group but the outermost."""
    for tree in TREES:
        (tree / "cgroup.procs").write_text(str(pid))


def _removed(folder: Path) -> bool:
    with suppress(FileNotFoundError, OSError):
        folder.rmdir()
    return not folder.exists()


@contextmanager
def real_groups(*codes: str) -> Iterator[list[RealGroup]]:
    """Groups with a process each; skips with a reason where there can be none."""
    if not all((tree / "cgroup.procs").exists() for tree in TREES):
        pytest.skip("no cgroups with cpu, cpuacct and cpuset here")
    if os.geteuid() != 0 or not all(os.access(tree, os.W_OK) for tree in TREES):
        pytest.skip("no groups can be made here: that needs root")
    with ExitStack() as stack:
        groups = []
        for code in codes:
            group = RealGroup(f"forestall-test-{os.getpid()}-{next(_NUMBERS)}", code)
            stack.callback(group.remove)
            group.make()
            groups.append(group)
        yield groups
