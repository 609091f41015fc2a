"""What every means of moving a resource has in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from forestall.adapters.libvirt.connection import Handle
from forestall.adapters.libvirt.domain import Domain
from forestall.model.resources import Resource


@dataclass(frozen=True)
class Vm:
    """A running VM as it is at this moment.

    Attributes
    ----------
    handle
        libvirt's domain, to ask and to tell.
    domain
        Its description, read just now.
    driver
        libvirt's name of the hypervisor.
    process
        Its process on this host; None if it has none that can be seen.
    namespace
        Network namespace of the process; None: ours.
    """

    handle: Handle
    domain: Domain
    driver: str = "QEMU"
    process: int | None = None
    namespace: Path | None = None


@dataclass(frozen=True)
class Progress:
    """How far a slow move has come; ``shortfall`` says in words what is missing, empty once it is there."""

    in_force: float
    shortfall: str = ""


Watch = Callable[[Vm], Progress]


@dataclass(frozen=True)
class Effect:
    """What a move has done so far.

    ``means`` names what moved it (its lead time is kept under that name). ``in_force`` was read back; ``expected`` is
    what should have been. A slow move has a ``watch`` that tells when it is complete; without one it is. ``remark``
    is a reason worth reading although the move is done.
    """

    means: str
    in_force: float
    expected: float
    watch: Watch | None = None
    remark: str = ""

    @property
    def shortfall(self) -> str:
        """What is wrong with a move that should be complete; empty if nothing is."""
        if self.watch is not None or math.isclose(self.in_force, self.expected, rel_tol=1e-6, abs_tol=1e-9):
            return ""
        return f"{self.expected:g} was set, and {self.in_force:g} is in force"


@dataclass(frozen=True)
class Restored:
    """A resource that was not as it had been: ``amount`` was; ``refusal`` says what cannot be put back."""

    resource: Resource
    amount: float
    effect: Effect
    refusal: str = ""


class Actuator(Protocol):
    """Moves one or two resources of a VM while it runs, never its stored definition.

    Errors are :class:`~forestall.model.errors.HypervisorError`, and
    :class:`~forestall.model.errors.Unsupported` where no other try would help.
    """

    @property
    def resources(self) -> tuple[Resource, ...]:
        """What is moved."""
        ...

    def refusal(self, vm: Vm) -> str:
        """Why this VM cannot be moved at all; empty if it can."""
        ...

    def step(self, vm: Vm) -> float:
        """Smallest move."""
        ...

    def means(self, vm: Vm) -> str:
        """Name of the slowest of the means that a raise may need."""
        ...

    def ceiling(self, vm: Vm) -> float:
        """Most that this VM can be given."""
        ...

    def in_force(self, vm: Vm) -> Mapping[Resource, float]:
        """What the VM has now."""
        ...

    def set(self, vm: Vm, resource: Resource, amount: float) -> Effect:
        """Set an amount, rounded up to the step, and read it back."""
        ...

    def settings(self, vm: Vm) -> dict[str, Any]:
        """Everything that :meth:`set` might change, as JSON values."""
        ...

    def put_back(self, vm: Vm, values: Mapping[str, Any]) -> list[Restored]:
        """Set what differs as it was."""
        ...


def rounded_up(amount: float, step: int) -> int:
    """Smallest whole multiple of ``step`` that is at least ``amount``, but for rounding errors."""
    return -int(-(amount - 1e-6 * step) // step) * step
