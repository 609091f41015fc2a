"""The busiest processes and control groups: CPU, faults, and bytes read and written; proc(5), cgroup-v2.

A guest may have many thousands: a look takes in a share of them at a time, in turn, so that its cost is bounded. The
names stay in the guest's memory and on the way to its host; the host never stores them in clear.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

PER_LOOK, MOST_TOLD, MAX_NAME = 32, 8, 32
TICK_SECONDS = 1.0 / os.sysconf("SC_CLK_TCK")
GROUP_DEPTH = 2
KERNEL_THREAD = 0x00200000
"""Flag of the kernel's own threads: include/linux/sched.h."""
Figures = tuple[float, float, float, float]
"""CPU seconds, faults, bytes read, bytes written, since the start."""
KEYS = ("cpu_cores", "faults_per_s", "read_bytes_per_s", "write_bytes_per_s")


class Scan(ABC):
    """Looks at some of many things in turn, and tells which did the most between two looks at the same."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, str, Figures]] = {}
        self._last = ""

    @abstractmethod
    def names(self) -> list[str]:
        """Everything there is to look at, in any order."""

    @abstractmethod
    def figures(self, name: str) -> tuple[str, Figures]:
        """What to call it, and its figures; an error (OSError, ValueError, IndexError) if it is gone."""

    def look(self, now: float) -> list[dict[str, Any]]:
        """The busiest of those whose turn it is: name and rates; nothing of those that did nothing."""
        names: list[str] = []
        with suppress(OSError):
            names = sorted(self.names())
        for gone in self._seen.keys() - set(names):
            del self._seen[gone]
        turn = [name for name in names if name > self._last][:PER_LOOK]
        self._last = turn[-1] if len(turn) == PER_LOOK else ""
        told: list[dict[str, Any]] = []
        for name in turn:
            try:
                called, figures = self.figures(name)
            except (OSError, ValueError, IndexError):
                continue
            at, before_called, before = self._seen.get(name, (now, called, figures))
            self._seen[name] = (now, called, figures)
            if now > at and called == before_called:
                rates = [max(0.0, later - earlier) / (now - at) for later, earlier in zip(figures, before)]
                if any(rates):
                    told.append({"name": called[:MAX_NAME], **dict(zip(KEYS, (round(rate, 4) for rate in rates)))})
        told.sort(key=lambda row: (-row["cpu_cores"], -row["read_bytes_per_s"] - row["write_bytes_per_s"]))
        return told[:MOST_TOLD]


class Processes(Scan):
    """Processes, by the name of their program; threads of the kernel are none."""

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__()
        self._proc = os.path.join(root, "proc")
        self._moved: dict[str, tuple[float, float, float]] = {}
        self._of_kernel: set[str] = set()

    def names(self) -> list[str]:
        """Process numbers."""
        numbers = {name for name in os.listdir(self._proc) if name.isdigit()}
        self._of_kernel &= numbers
        return list(numbers - self._of_kernel)

    def figures(self, name: str) -> tuple[str, Figures]:
        """See proc(5)."""
        text = _text(os.path.join(self._proc, name, "stat"))
        called = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        if int(fields[6]) & KERNEL_THREAD:
            self._of_kernel.add(name)
        cpu, faults = (int(fields[11]) + int(fields[12])) * TICK_SECONDS, int(fields[7]) + int(fields[9])
        return (called, (cpu, faults, *self._bytes(name, cpu)))

    def _bytes(self, name: str, cpu: float) -> tuple[float, float]:
        """Bytes of the disk read and written; looked up anew only for who has run since."""
        ran, read, written = self._moved.get(name, (0.0, 0.0, 0.0))
        if cpu != ran:
            try:
                moved = dict(line.split(": ") for line in _text(os.path.join(self._proc, name, "io")).splitlines())
                read, written = float(moved["read_bytes"]), float(moved["write_bytes"])
            except (OSError, ValueError, KeyError):
                pass
            if len(self._moved) > 4096:
                self._moved.clear()
            self._moved[name] = (cpu, read, written)
        return read, written


class Groups(Scan):
    """Control groups of the second version, down to services."""

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__()
        self._top = os.path.join(root, "sys/fs/cgroup")
        if not os.path.exists(os.path.join(self._top, "cgroup.controllers")):
            self._top = os.path.join(self._top, "unified")

    def names(self) -> list[str]:
        """Paths below the root, of services and slices."""
        found: list[str] = []
        level = [""]
        for _ in range(GROUP_DEPTH):
            below = []
            for folder in level:
                with suppress(OSError), os.scandir(os.path.join(self._top, folder)) as entries:
                    below += [os.path.join(folder, entry.name) for entry in entries if entry.is_dir()]
            found += below
            level = below
        return found

    def figures(self, name: str) -> tuple[str, Figures]:
        """From ``cpu.stat``, ``memory.stat`` and ``io.stat``, as far as their controllers are on."""
        folder = os.path.join(self._top, name)
        cpu = dict(line.split() for line in _text(os.path.join(folder, "cpu.stat")).splitlines())
        faults, read, written = 0, 0, 0
        try:
            memory = dict(line.split() for line in _text(os.path.join(folder, "memory.stat")).splitlines())
            faults = int(memory.get("pgfault", 0))
            for line in _text(os.path.join(folder, "io.stat")).splitlines():
                moved = dict(word.split("=") for word in line.split()[1:])
                read, written = read + int(moved.get("rbytes", 0)), written + int(moved.get("wbytes", 0))
        except (OSError, ValueError):
            pass
        return os.path.basename(name), (int(cpu["usage_usec"]) * 1e-6, faults, read, written)


def _text(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 16 * 1024).decode(errors="replace")
    finally:
        os.close(descriptor)
