"""Control groups of VMs, version 1 or 2, whichever holds the controller. Sources: cgroups(7), cgroup-v2.rst."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

USUAL_PERIOD_SECONDS = 0.1
_INNER = re.compile(r"/(emulator|vcpu\d+|iothread\d+)$")


@dataclass(frozen=True)
class Throttling:
    """Periods of its quota in which a group was held back, and how long such a period is."""

    throttled_periods: int
    period_seconds: float

    def share_since(self, before: Throttling, seconds: float) -> float:
        """Share of the ``seconds`` since ``before`` whose periods held the group back; NaN if the counter went back.

        Of time, not of the periods that the kernel counts: it counts those in which the group wanted to run, so that
        a group which ran once in an hour, for longer than its quota, would have been held back in all of them.
        """
        throttled = self.throttled_periods - before.throttled_periods
        if throttled < 0 or not seconds > 0:
            return math.nan
        return min(throttled * self.period_seconds / seconds, 1.0)


class ControlGroups:
    """Groups under a root; a file that is not there reads as None.

    Parameters
    ----------
    root
        Where the trees are mounted.
    """

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = root

    def folder(self, controller: str, groups: Mapping[str, str]) -> Path | None:
        """Folder of a VM's group for a controller, from the groups of its process.

        libvirt puts the threads of a VM into groups inside it; the VM's own group is the one around them.
        """
        for tree, name in ((controller, controller), ("", ""), ("unified", "")):
            inside = _INNER.sub("", groups.get(name, "/"))
            folder = self._root / tree / inside.lstrip("/")
            if inside != "/" and folder.is_dir() and (name or self._has(folder, controller)):
                return folder
        return None

    def cpu_seconds(self, groups: Mapping[str, str]) -> float | None:
        """CPU time that a VM has used."""
        if (folder := self.folder("cpuacct", groups)) and (text := _read(folder / "cpuacct.usage")):
            return int(text) / 1e9
        folder = self.folder("cpu", groups)
        usage = _numbers(folder / "cpu.stat").get("usage_usec") if folder else None
        return None if usage is None else usage / 1e6

    def throttling(self, groups: Mapping[str, str]) -> Throttling | None:
        """How a VM was held back by its quota: that of the VM, or of the vCPU that was held back most."""
        folder = self.folder("cpu", groups)
        if folder is None:
            return None
        seen = [_throttling(part) for part in (folder, *sorted(folder.glob("vcpu*")))]
        return max(filter(None, seen), key=lambda t: t.throttled_periods, default=None)

    def is_idle(self, groups: Mapping[str, str]) -> bool:
        """Whether a VM, or the scope around it, is in the idle class: it runs where nobody else wants to."""
        folder = self.folder("cpu", groups)
        return folder is not None and any(_read(place / "cpu.idle") == "1" for place in (folder, folder.parent))

    def memory_bytes(self, groups: Mapping[str, str]) -> float | None:
        """Memory that is charged to a VM."""
        folder = self.folder("memory", groups)
        text = (_read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")) if folder else ""
        return float(text) if text else None

    @staticmethod
    def _has(folder: Path, controller: str) -> bool:
        """Whether a group of version 2 has a controller: ``cpu.stat`` alone is there without it."""
        return controller in _read(folder / "cgroup.controllers").split()


def _throttling(folder: Path) -> Throttling | None:
    stat = _numbers(folder / "cpu.stat")
    if "nr_throttled" not in stat:
        return None
    period_us = _read(folder / "cpu.cfs_period_us") or _read(folder / "cpu.max").rpartition(" ")[2]
    return Throttling(stat["nr_throttled"], int(period_us) / 1e6 if period_us.isdigit() else USUAL_PERIOD_SECONDS)


def _numbers(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""
