"""Small processes in control groups of version 1 that are made for a test, and removed whatever happens."""

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
TREES = ("cpu", "cpuacct", "cpuset")
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
            (ROOT / tree / self.name).mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            (self.cpuset / file).write_text((ROOT / "cpuset" / file).read_text())
        for tree in TREES:
            (ROOT / tree / self.name / "cgroup.procs").write_text(str(self.pid))

    @property
    def cpu(self) -> Path:
        """Its folder in the tree of the cpu controller."""
        return ROOT / "cpu" / self.name

    @property
    def cpuset(self) -> Path:
        """Its folder in the tree of the cpuset controller."""
        return ROOT / "cpuset" / self.name

    def state(self) -> dict[str, str]:
        """How it is set."""
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.shares", "cpu.idle")
        return {name: (self.cpu / name).read_text() for name in names if (self.cpu / name).exists()}

    def kill(self) -> None:
        """End its process, and have it gone."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """End its process and remove it, with the groups inside."""
        self.kill()
        for tree in TREES:
            for folder in sorted((ROOT / tree / self.name).glob("**/"), reverse=True):
                wait_for(lambda folder=folder: _removed(folder), f"removing {folder}")  # type: ignore[misc]


def _removed(folder: Path) -> bool:
    with suppress(FileNotFoundError, OSError):
        folder.rmdir()
    return not folder.exists()


@contextmanager
def real_groups(*codes: str) -> Iterator[list[RealGroup]]:
    """Groups with a process each; skips with a reason where there can be none."""
    if not all((ROOT / tree / "cgroup.procs").exists() for tree in TREES):
        pytest.skip("no cgroups of version 1 with cpu, cpuacct and cpuset here")
    if os.geteuid() != 0 or not all(os.access(ROOT / tree, os.W_OK) for tree in TREES):
        pytest.skip("no groups can be made here: that needs root")
    with ExitStack() as stack:
        groups = []
        for code in codes:
            group = RealGroup(f"forestall-test-{os.getpid()}-{next(_NUMBERS)}", code)
            stack.callback(group.remove)
            group.make()
            groups.append(group)
        yield groups
