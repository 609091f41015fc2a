"""How many cores one VM may use: set, and put back by whoever knows only what was kept. Standard library only."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from forestall.adapters.linux.cgroups import ControlGroups
from forestall.adapters.linux.core_files import Life
from forestall.adapters.linux.core_group import (
    GONE,
    LEAST_QUOTA_US,
    NO_QUOTA,
    CpuGroup,
    CpuSettings,
    groups_inside,
    plain,
    refusal,
)
from forestall.adapters.linux.core_sets import CpuSets
from forestall.adapters.linux.proc import Processes

IS_GONE = "its process is gone"


def own_group(controller: str, pid: int, proc_root: Path, cgroup_root: Path) -> Path | None:
    """The outermost group that holds this VM and nothing else; None where it has none.

    Under systemd libvirt makes a group ``libvirt`` of its own inside the VM's scope. That one has no siblings: a weight
    or the idle class would mean nothing there.
    """
    folder = ControlGroups(cgroup_root).folder(controller, Processes(proc_root).control_groups(pid))
    if folder is not None and folder.name == "libvirt" and folder.parent.suffix == ".scope":
        return folder.parent
    return folder


class CoreLimits:
    """The CPU settings of one VM that runs; every step answers with what stands in its way, empty where it is done.

    Parameters
    ----------
    life
        Its process; nothing is written once it has ended. Whoever gives it, closes it.
    proc_root, cgroup_root
        Where to look.
    period_us
        Length of the periods of its quota, microseconds.
    whole_cores
        Whether to limit by CPUs instead of a quota, as far as it is whole cores.

    Attributes
    ----------
    cpus
        Whole CPUs that it was last limited to; empty where it was not.

    How it is set when this is made is what it may have at most: what an earlier limit left must have been put back.

    Raises
    ------
    OSError
        It has no group of its own with the controller, or must not be limited.
    """

    def __init__(self, life: Life, proc_root: Path, cgroup_root: Path, *, period_us: int, whole_cores: bool) -> None:
        self._life, self._period_us = life, period_us
        controllers = ("cpu", "cpuset") if whole_cores else ("cpu",)
        folders = [own_group(controller, life.pid, proc_root, cgroup_root) for controller in controllers]
        if folders[0] is None or folders[-1] is None:
            raise OSError(errno.ENOENT, f"it has no control group of its own for {' and '.join(controllers)}")
        self._sets = CpuSets(folders[1]) if whole_cores and folders[1] else None
        self._group = CpuGroup(folders[0])
        self._usual = self._group.in_force
        self._wanted: tuple[float, int] | None = None
        self.cpus: frozenset[int] = frozenset()
        self._folders = [folder for folder in folders if folder is not None]

    def members(self) -> frozenset[int]:
        """Processes that would be limited: those in its groups, and in groups inside them."""
        found: set[int] = set()
        for outermost in self._folders:
            for folder, _, _ in os.walk(outermost):
                with suppress(OSError):
                    found.update(map(int, Path(folder, "cgroup.procs").read_text("ascii").split()))
        return frozenset(found)

    def values(self) -> dict[str, Any]:
        """How the VM is set now, as JSON values: all that :func:`put_back` needs.

        Raises
        ------
        OSError
            The group is gone.
        """
        self._wanted = None
        return {
            "pid": self._life.pid,
            "birth": self._life.birth,
            "group": str(self._group.folder),
            "cpu": plain(self._group.look_again()),
            "cpuset": str(self._sets.folder) if self._sets else "",
            "cpus": self._sets.read() if self._sets else {},
        }

    def make_way(self) -> str:
        """Put the VM behind all others."""
        return self._tried(self._group.stand_behind)

    def limit(self, cores: float, beside: int = 0) -> str:
        """Let the VM use so many cores, at least what the smallest quota gives, at most what it had; inf: all that.

        Whole ones are not the first ``beside`` of its CPUs, which are another's, as far as there are others.
        """
        if (cores, beside) == self._wanted and self._life.goes_on():
            return ""
        if not cores >= 0:
            return f"{cores:g} is not a number of cores"
        reason = self._tried(lambda: self._limit_to(cores, beside), lambda: self._obstacle(cores))
        self._wanted = None if reason else (cores, beside)
        self.cpus = frozenset() if reason else self.cpus
        return reason

    def look_again(self) -> None:
        """Take what is in force from the files, after somebody else has set them."""
        self._wanted, self.cpus = None, frozenset()
        with suppress(OSError):
            self._group.look_again()

    def close(self) -> None:
        """Let go of the files."""
        self._group.close()

    def _tried(self, step: Callable[[], None], why_invalid: Callable[[], str] = lambda: "") -> str:
        if not self._life.goes_on():
            return IS_GONE
        try:
            step()
        except OSError as error:
            if error.errno in GONE:
                return IS_GONE
            return (why_invalid() if error.errno == errno.EINVAL else "") or f"the kernel refuses it: {error.strerror}"
        return ""

    def _limit_to(self, cores: float, beside: int) -> None:
        self.cpus = frozenset()
        if self._sets is None:
            self._group.set_quota(*self._quota(cores))
            # What it leaves of a period it may use in the next, unless its own quota says otherwise.
            quota_us = max(self._group.in_force.quota_us, 0)
            own_us = self._usual.burst_us or 0
            self._group.set_burst(quota_us if self._usual.quota_us == NO_QUOTA else min(quota_us, own_us))
        elif cores >= 1:
            self.cpus = self._sets.narrow(cores, beside)
            self._group.set_quota(self._usual.quota_us, self._usual.period_us)
            self._group.set_burst(self._usual.burst_us)
        else:
            self._group.set_quota(*self._quota(cores))
            self._sets.narrow(1, beside)

    def _quota(self, cores: float) -> tuple[int, int]:
        """Quota and period; a quota that the VM had before any limit stays the most that it gets."""
        if self._usual.quota_us != NO_QUOTA:
            cores = min(cores, self._usual.cores)
        quota_us = NO_QUOTA if math.isinf(cores) else max(round(cores * self._period_us), LEAST_QUOTA_US)
        return quota_us, self._period_us

    def _obstacle(self, cores: float) -> str:
        """What forbids a quota in version 1: a group has neither less than one inside nor more than one around it."""
        for inner in groups_inside(self._group.folder):
            if inner.in_force.cores > cores:
                return f"the group {inner.folder.name} inside its own has a quota of {inner.in_force.cores:g} cores"
        return "a group around its own has a smaller quota"


def put_back(values: Mapping[str, Any], proc_root: Path = Path("/proc")) -> str:
    """Set a VM as :meth:`CoreLimits.values` says that it was; what could not be, and why.

    Safe to repeat. Nothing is done for a VM that has ended: its files are opened first, and only then is its process
    asked for, so that they cannot be those of a VM that came after it.
    """
    try:
        with closing(Life(values["pid"], proc_root)) as life, closing(CpuGroup(Path(values["group"]))) as group:
            if life.birth != values["birth"] or not life.goes_on():
                return ""
            reasons = [
                group.restore(CpuSettings(**values["cpu"])),
                refusal("CPUs", partial(_restore_cpus, values["cpuset"], values["cpus"])),
            ]
            return "; ".join(filter(None, reasons))
    except OSError as error:
        return "" if error.errno in (*GONE, errno.ESRCH) else str(error.strerror)


def _restore_cpus(folder: str, was: Mapping[str, str]) -> None:
    if folder:
        CpuSets(Path(folder)).restore(was)
