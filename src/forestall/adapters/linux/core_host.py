"""The cores of this host, over ``/proc`` and control groups of version 1 and 2."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from forestall.adapters.linux.core_counters import CoreCounters, GuestFiles
from forestall.adapters.linux.core_files import allow_many_files
from forestall.adapters.linux.core_group import LEAST_QUOTA_US
from forestall.adapters.linux.core_limits import IS_GONE, CoreLimits, put_back
from forestall.adapters.linux.core_sets import allowed
from forestall.model.errors import HypervisorError
from forestall.ports.cores import CoreUse, Guest, Part, Refusal
from forestall.ports.hypervisor import VmSettings

PERIOD_SECONDS = 0.02
"""Short, so that a borrower that has used up its quota does not stand still for long."""
LOOK_SECONDS = 5.0
Run = tuple[str, str, int]
NO_PROCESS = (errno.ENOENT, errno.ESRCH)


class LinuxCoreHost:
    """A :class:`~forestall.ports.cores.CoreHost` of this machine; not for use by several threads at once.

    Three files and one for each vCPU stay open of a VM, and five more of a borrower.

    Parameters
    ----------
    now
        Tells the monotonic time, seconds.
    proc_root, cgroup_root
        Where ``/proc`` and the trees of control groups are.
    period_seconds
        Length of the periods of a borrower's quota, 0.001 to 1.
    whole_cores
        Whether borrowers are limited by CPUs, as far as it is whole cores: they get the highest ones of those that they
        were allowed when they were attached, beside each other as far as there are enough, and a quota only below one.
    look_seconds
        How often to look for threads that came and went.
    stand_by
        Told, when it changes, which whole CPUs borrowers are limited to; none while none is lent.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        proc_root: Path = Path("/proc"),
        cgroup_root: Path = Path("/sys/fs/cgroup"),
        period_seconds: float = PERIOD_SECONDS,
        whole_cores: bool = False,
        look_seconds: float = LOOK_SECONDS,
        stand_by: Callable[[frozenset[int]], None] = lambda _: None,
    ) -> None:
        if not 0.001 <= period_seconds <= 1.0:
            raise ValueError(f"a quota has periods of 0.001 to 1 s, not {period_seconds:g} s")
        self._now, self._proc_root, self._cgroup_root = now, proc_root, cgroup_root
        self._period_us, self._whole_cores = round(period_seconds * 1e6), whole_cores
        self._look_seconds, self._stand_by, self._lent_cpus = look_seconds, stand_by, frozenset[int]()
        self._guests: dict[str, Guest] = {}
        self._files: dict[str, GuestFiles] = {}
        self._limits: dict[str, CoreLimits] = {}
        self._unlimited: dict[str, str] = {}
        self._births: dict[Run | None, str] = {}
        self._counters = CoreCounters((), now, look_seconds)

    def total_cores(self) -> float:
        """CPUs of the root's cpuset; where there is none, those of this process."""
        trees = (self._cgroup_root / tree for tree in ("cpuset", "", "unified"))
        found = next(filter(None, map(allowed, trees)), None)
        return float(len(found or os.sched_getaffinity(0)))

    def attach(self, guests: Sequence[Guest]) -> tuple[Refusal, ...]:
        """Watch these guests and no others; a borrower that cannot be limited is watched all the same.

        A quota, and the CPUs, that a borrower has now are the most that it will get: whatever an earlier limit has left
        must have been put back.
        """
        allow_many_files()
        self._counters.keep()
        wanted = {guest.vm_id: guest for guest in guests}
        for vm_id, guest in self._guests.items():
            if _run(wanted.get(vm_id)) != _run(guest) or not self._files[vm_id].life.goes_on():
                self._let_go(vm_id)
        reasons = {vm_id: self._watch(guest) for vm_id, guest in wanted.items()}
        self._guests = {vm_id: guest for vm_id, guest in wanted.items() if vm_id in self._files}
        known = {_run(guest): self._files[vm_id].life.birth for vm_id, guest in self._guests.items()}
        asked = {run: birth for run, birth in self._births.items() if run in map(_run, guests)}
        self._births = asked | known  # of those that are refused too, or they would pass the next time
        for guest in self._guests.values():
            if guest.part is Part.BORROWER and not reasons[guest.vm_id]:
                reasons[guest.vm_id] = self._shared(guest)
        files = [self._files[vm_id] for vm_id in self._guests]
        self._counters = CoreCounters(files, self._now, self._look_seconds)
        self._see_lent()
        return tuple(Refusal(vm_id, reason) for vm_id, reason in reasons.items() if reason)

    def guests(self) -> tuple[Guest, ...]:
        """Guests that are watched."""
        return tuple(self._guests.values())

    def read(self, *, all_counters: bool = True) -> CoreUse:
        """Read the counters of all guests."""
        return self._counters.read(all_counters=all_counters)

    def settings(self, vm_id: str) -> VmSettings:
        """How a guest is set now.

        Raises
        ------
        HypervisorError
            It is not watched, cannot be limited, or is gone.
        """
        if reason := self._reach(vm_id) or self._is_gone(vm_id):
            raise HypervisorError(f"{vm_id}: {reason}")
        try:
            return VmSettings(vm_id, self._guests[vm_id].incarnation, self._limits[vm_id].values())
        except OSError as error:
            raise HypervisorError(f"{vm_id}: its settings cannot be read: {error.strerror}") from error

    def make_way(self, vm_id: str) -> str:
        """Put a borrower behind all others."""
        return self._not_a_borrower(vm_id) or self._limits[vm_id].make_way()

    def limit(self, cores: Mapping[str, float]) -> tuple[Refusal, ...]:
        """Set how many cores these borrowers may use from now on, whole ones beside each other as far as there are."""
        reasons, beside = dict[str, str](), 0
        for vm_id, wanted in cores.items():
            reasons[vm_id] = self._not_a_borrower(vm_id) or self._limits[vm_id].limit(wanted, beside)
            beside += len(self._limits[vm_id].cpus) if vm_id in self._limits else 0
        self._see_lent()
        return tuple(Refusal(vm_id, reason) for vm_id, reason in reasons.items() if reason)

    def least_cores(self) -> float:
        """What the smallest quota gives."""
        return LEAST_QUOTA_US / self._period_us

    def put_back(self, settings: VmSettings) -> str:
        """Set a VM as it was, whether it is watched here or not."""
        guest = self._guests.get(settings.vm_id)
        if guest is not None and guest.incarnation != settings.incarnation:
            return ""
        reason = put_back(settings.values, self._proc_root)
        if settings.vm_id in self._limits:
            self._limits[settings.vm_id].look_again()
        self._see_lent()
        return reason

    def close(self) -> None:
        """Let go of all files."""
        for vm_id in self._guests:
            self._let_go(vm_id)
        self._guests = {}
        self._counters = CoreCounters((), self._now, self._look_seconds)

    def _see_lent(self) -> None:
        lent = frozenset[int]().union(*(limits.cpus for limits in self._limits.values()))
        if lent != self._lent_cpus:
            self._lent_cpus = lent
            self._stand_by(lent)

    def _watch(self, guest: Guest) -> str:
        """Open what a guest needs, unless it is open; what stands in the way."""
        vm_id = guest.vm_id
        if vm_id in self._files and (guest.part is Part.LENDER or vm_id in self._limits or vm_id in self._unlimited):
            return self._unlimited.get(vm_id, "") if guest.part is Part.BORROWER else ""
        try:
            if vm_id not in self._files:
                files = GuestFiles(guest.pid, self._proc_root, self._cgroup_root)
                if not self._is_run(guest, files.life.birth):
                    files.close()
                    return IS_GONE
                self._files[vm_id] = files
        except OSError as error:
            return IS_GONE if error.errno in NO_PROCESS else f"it cannot be watched: {error.strerror}"
        return self._open_limits(vm_id) if guest.part is Part.BORROWER else ""

    def _is_run(self, guest: Guest, birth: str) -> bool:
        """Whether a process of that birth can be the guest's: its number may have been given to another since."""
        boot = birth.partition("/")[0]
        names_another = bool(boot) and boot in guest.incarnation and not guest.incarnation.endswith(birth)
        return not names_another and self._births.get(_run(guest), birth) == birth

    def _open_limits(self, vm_id: str) -> str:
        """Open the CPU settings of a guest; why they cannot be set, and that is remembered."""
        life, whole = self._files[vm_id].life, self._whole_cores
        try:
            self._limits[vm_id] = CoreLimits(
                life, self._proc_root, self._cgroup_root, period_us=self._period_us, whole_cores=whole
            )
        except OSError as error:
            self._unlimited[vm_id] = f"it cannot be limited: {error.strerror}"
        return self._unlimited.get(vm_id, "")

    def _shared(self, guest: Guest) -> str:
        """Why a guest must not be limited although it can be: others would be limited with it."""
        members = self._limits[guest.vm_id].members()
        others = [other.vm_id for other in self._guests.values() if other.pid in members and other.pid != guest.pid]
        if not others and not members & {1, os.getpid(), os.getppid()}:
            return ""
        who = ", ".join(map(repr, others)) or "more than the VM"
        self._unlimited[guest.vm_id] = f"it cannot be limited: its control group holds {who}"
        self._limits.pop(guest.vm_id).close()
        return self._unlimited[guest.vm_id]

    def _reach(self, vm_id: str) -> str:
        """Have the CPU settings of a guest open; what stands in the way."""
        if vm_id not in self._guests:
            return "it is not watched"
        if vm_id in self._limits or vm_id in self._unlimited:
            return self._unlimited.get(vm_id, "")
        return self._open_limits(vm_id)

    def _is_gone(self, vm_id: str) -> str:
        return "" if self._files[vm_id].life.goes_on() else IS_GONE

    def _not_a_borrower(self, vm_id: str) -> str:
        """Why a guest is not limited here."""
        if vm_id in self._guests and self._guests[vm_id].part is not Part.BORROWER:
            return "it is a lender, whose limits are never moved"
        return self._reach(vm_id)

    def _let_go(self, vm_id: str) -> None:
        self._files.pop(vm_id).close()
        self._unlimited.pop(vm_id, None)
        if limits := self._limits.pop(vm_id, None):
            limits.close()
            self._see_lent()


def _run(guest: Guest | None) -> Run | None:
    """Which run of a VM it is, whatever its part."""
    return (guest.vm_id, guest.incarnation, guest.pid) if guest else None
