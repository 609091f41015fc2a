"""The cores of a host: who ran how long and waited how long, and how many cores those may use who borrow idle ones.

What is read here is read every few hundredths of a second, so it is arrays over VMs and never a call to the
hypervisor's daemon. What is moved is the CPU limit of borrowers alone: a lender that wants its cores back takes them
from a borrower through the scheduler, in microseconds, whatever this port says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from forestall.model.samples import FloatArray
from forestall.ports.hypervisor import VmSettings


class Part(StrEnum):
    """What a VM does with idle cores."""

    LENDER = "lender"
    """What it does not use is lent; its limits are never moved here."""
    BORROWER = "borrower"
    """Runs on cores that are lent, and gives way at once."""


@dataclass(frozen=True)
class Guest:
    """A VM whose cores are watched.

    Attributes
    ----------
    vm_id
        Its name.
    incarnation
        Names this run of it; see :class:`~forestall.ports.hypervisor.VmSettings`.
    pid
        Its process.
    part
        What it does with idle cores.
    """

    vm_id: str
    incarnation: str
    pid: int
    part: Part


@dataclass(frozen=True)
class CoreUse:
    """Counters of guests at one instant, arrays (vm,) in the order of :meth:`CoreHost.guests`; NaN where unknown.

    Attributes
    ----------
    at
        Monotonic instant of the reading, seconds.
    run_seconds
        CPU time used so far, all vCPUs (and the hypervisor's own threads for the VM) together.
    wait_seconds
        Time that vCPUs were ready and waited for a core.
    runs
        How many times a vCPU was put on a core. Wait over runs is the mean latency from wake-up to running.
    faults
        Page faults of the VM's process: what of memory bandwidth is seen without hardware counters.
    operations
        Reads and writes that the VM's process asked the kernel for.
    """

    at: float
    run_seconds: FloatArray
    wait_seconds: FloatArray
    runs: FloatArray
    faults: FloatArray
    operations: FloatArray


@dataclass(frozen=True)
class Refusal:
    """What could not be set for a VM, and why."""

    vm_id: str
    reason: str


class CoreHost(Protocol):
    """Cores of one host. A guest that is gone reads as NaN and refuses what is set; neither is an error."""

    def total_cores(self) -> float:
        """Cores that the guests may run on."""
        ...

    def attach(self, guests: Sequence[Guest]) -> tuple[Refusal, ...]:
        """Watch these guests and no others; files are opened here and kept open.

        Those that stay are not looked at anew. A guest that is no longer named is let go of: a borrower that was set
        must have been put back before. Refused are guests that cannot be watched, and borrowers that cannot be limited.
        """
        ...

    def guests(self) -> tuple[Guest, ...]:
        """Guests that are watched, in the order of the arrays."""
        ...

    def read(self, *, all_counters: bool = True) -> CoreUse:
        """Read the counters; without ``all_counters`` faults and operations are as last read (they cost more)."""
        ...

    def settings(self, vm_id: str) -> VmSettings:
        """How a borrower is set now: what must be kept, durably, before it is set for the first time."""
        ...

    def make_way(self, vm_id: str) -> str:
        """Put a borrower behind all others: idle class where the kernel has it, else the least weight.

        Returns
        -------
        str
            What stands in the way; empty where it is done.
        """
        ...

    def limit(self, cores: Mapping[str, float]) -> tuple[Refusal, ...]:
        """Set how many cores each of these borrowers may use from now on, a multiple or a part of one; at least
        :meth:`least_cores`. What is so already is not written again."""
        ...

    def least_cores(self) -> float:
        """The smallest limit: a borrower is slowed down, never stopped."""
        ...

    def put_back(self, settings: VmSettings) -> str:
        """Set a VM as it was; safe to repeat; nothing happens to one that is gone or runs as another incarnation.

        Returns
        -------
        str
            What could not be put back, and why; empty where all is as it was.
        """
        ...

    def close(self) -> None:
        """Let go of all files; what is set stays set."""
        ...


class CoreGuard(Protocol):
    """Somebody outside this process who puts VMs back when it dies or hangs. Errors: ``HypervisorError``."""

    def begin(self) -> None:
        """Start, in place of one that has ended; what was covered stays covered."""
        ...

    def cover(self, settings: VmSettings) -> None:
        """Put this VM back, if it comes to that; told before the VM is set for the first time."""
        ...

    def release(self, vm_id: str) -> None:
        """The VM has been put back; harmless if it is not covered."""
        ...

    def beat(self) -> None:
        """This process does not hang."""
        ...

    def alive(self) -> bool:
        """Whether it is there and hears."""
        ...

    def end(self) -> int:
        """Let it end; what is still covered is put back. Safe to repeat."""
        ...
