"""How much CPU one control group may use and whom it gives way to, in version 1 or 2. Standard library only.

Sources: admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst (the kernel's documentation); ``tg_set_cfs_bandwidth`` and
``sched_group_set_idle`` in kernel/sched.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from forestall.adapters.linux.core_files import OpenFiles

NO_QUOTA = -1
LEAST_QUOTA_US = 1000
"""The kernel takes no smaller one, and no period that is shorter or longer than a second."""
GONE = (errno.ENODEV, errno.ENOENT)
_QUOTA, _PERIOD, _MAX, _IDLE = "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max", "cpu.idle"


@dataclass(frozen=True)
class CpuSettings:
    """How a group is set.

    Attributes
    ----------
    quota_us, period_us
        CPU time in each period, microseconds; -1: as much as there is.
    burst_us
        Quota that may be saved up, microseconds; None where the kernel knows no such thing.
    weight
        Of the group among its siblings, in the unit of its version; not settable while it is idle.
    idle
        1 for the idle class; None where the kernel has none for groups.
    """

    quota_us: int
    period_us: int
    burst_us: int | None
    weight: int
    idle: int | None

    @property
    def cores(self) -> float:
        """What the quota comes to; 0 where there is none."""
        return max(self.quota_us, 0) / self.period_us


class CpuGroup:
    """CPU settings of one group: what is so already is not written again.

    What is in force is what was read first or written last; who sets the group otherwise meanwhile is not noticed
    before :meth:`look_again`.

    Raises
    ------
    OSError
        There is no such group, it has no CPU controller, or it must not be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unified = (folder / _MAX).exists()
        self._weight, self._burst = ("cpu.weight", "cpu.max.burst") if unified else ("cpu.shares", "cpu.cfs_burst_us")
        self._least_weight = 1 if unified else 2
        names = (_MAX,) if unified else (_QUOTA, _PERIOD)
        self._files = OpenFiles(folder, (*names, self._weight, self._burst, _IDLE))
        self._unified = unified
        if not all(name in self._files for name in (*names, self._weight)):
            self._files.close()
            raise OSError(errno.ENOENT, "the group has no CPU controller")
        self.in_force = self.look_again()

    def look_again(self) -> CpuSettings:
        """Read what is in force."""
        files = self._files
        quota, period = files.read(_MAX).split() if self._unified else (files.read(_QUOTA), files.read(_PERIOD))
        self.in_force = CpuSettings(
            quota_us=NO_QUOTA if quota == "max" else int(quota),
            period_us=int(period),
            burst_us=int(files.read(self._burst)) if self._burst in files else None,
            weight=int(files.read(self._weight)),
            idle=int(files.read(_IDLE)) if _IDLE in files else None,
        )
        return self.in_force

    def set_quota(self, quota_us: int, period_us: int) -> None:
        """Set quota and period together; if the kernel refuses, they are as before.

        Raises
        ------
        OSError
            The kernel refuses: in version 1 a group must not have less than one inside it, nor more than one around it.
        """
        was = self.in_force
        if (quota_us, period_us) == (was.quota_us, was.period_us):
            return
        if was.burst_us and NO_QUOTA < quota_us < was.burst_us:  # kernels differ in whether a quota may be below it
            self.set_burst(0)
        try:
            self._write_quota(quota_us, period_us, same_period=period_us == was.period_us)
        except OSError:
            with suppress(OSError):
                self._write_quota(was.quota_us, was.period_us, same_period=False)
            with suppress(OSError):
                self.set_burst(was.burst_us)
            raise
        self.in_force = replace(self.in_force, quota_us=quota_us, period_us=period_us)

    def set_burst(self, burst_us: int | None) -> None:
        """Set how much unused quota may be saved up; nothing where the kernel knows no such thing."""
        if burst_us is not None and self.in_force.burst_us not in (None, burst_us):
            self._files.write(self._burst, burst_us)
            self.in_force = replace(self.in_force, burst_us=burst_us)

    def stand_behind(self) -> None:
        """Go behind all siblings: into the idle class, or by the least weight where the kernel has none for groups."""
        if self.in_force.idle is None:
            self._set_weight(self._least_weight)
        elif not self.in_force.idle:
            self._set_idle(1)

    def restore(self, was: CpuSettings) -> str:
        """Set everything as it was; what could not be, and why."""
        self.look_again()
        steps: Mapping[str, Callable[[], None]] = {
            "quota": lambda: self.set_quota(was.quota_us, was.period_us),
            "burst": lambda: self.set_burst(was.burst_us),
            "weight": lambda: self._restore_class(was),
        }
        reasons = (refusal(what, step) for what, step in steps.items())
        return "; ".join(filter(None, reasons))

    def close(self) -> None:
        """Let go of the files."""
        self._files.close()

    def _write_quota(self, quota_us: int, period_us: int, *, same_period: bool) -> None:
        if self._unified:
            self._files.write(_MAX, f"{'max' if quota_us == NO_QUOTA else quota_us} {period_us}")
            return
        if not same_period:  # with one of the two new, the quota in between could be too much or too little
            self._files.write(_QUOTA, NO_QUOTA)
            self._files.write(_PERIOD, period_us)
        if same_period or quota_us != NO_QUOTA:
            self._files.write(_QUOTA, quota_us)

    def _restore_class(self, was: CpuSettings) -> None:
        """Idle class first: leaving it sets the weight to the usual one, and within it no weight can be set."""
        if was.idle is not None and self.in_force.idle not in (None, was.idle):
            self._set_idle(was.idle)
        if not was.idle:
            self._set_weight(was.weight)

    def _set_idle(self, idle: int) -> None:
        self._files.write(_IDLE, idle)
        self.look_again()

    def _set_weight(self, weight: int) -> None:
        if weight != self.in_force.weight:
            self._files.write(self._weight, weight)
            self.in_force = replace(self.in_force, weight=weight)


def plain(settings: CpuSettings) -> dict[str, int | None]:
    """Settings as JSON values."""
    return asdict(settings)


def groups_inside(folder: Path) -> Iterator[CpuGroup]:
    """Groups inside another that have a quota of their own, each closed when the next is asked for.

    libvirt gives the threads of a VM such groups: the quota of vCPUs is theirs, not that of the group around them.
    """
    for path in sorted(folder.glob("**/*/cgroup.procs")):
        with suppress(OSError), closing(CpuGroup(path.parent)) as group:
            if group.in_force.quota_us != NO_QUOTA:
                yield group


def refusal(what: str, step: Callable[[], None]) -> str:
    """Why a step was refused; empty where it was done, or there is nothing left to be set."""
    try:
        step()
    except OSError as error:
        return "" if error.errno in GONE else f"{what}: {error.strerror}"
    return ""
