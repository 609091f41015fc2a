"""How VMs were before they were changed: kept before the first change, put back when something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from forestall.model.decision import Outcome, Result
from forestall.model.errors import HypervisorError, StoreError
from forestall.ports.hypervisor import Hypervisor, VmSettings
from forestall.ports.originals import Originals


class Restorer(Protocol):
    """The part of a hypervisor that putting back needs."""

    def put_back(self, settings: VmSettings) -> list[Outcome]:
        """Set a VM as it was; see :meth:`forestall.ports.hypervisor.Hypervisor.put_back`."""
        ...

    def close(self) -> None:
        """Let go of the host."""
        ...


Note = Callable[[str], None]
"""Takes one line for the operator."""


@dataclass(frozen=True)
class PutBack:
    """What became of putting back: outcomes, the VMs that are as they were, and those not yet, with a reason each."""

    outcomes: tuple[Outcome, ...] = ()
    done: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()


class Safekeeping:
    """Keeps originals before VMs are changed, and puts them back.

    Parameters
    ----------
    host
        Whose VMs.
    originals
        Where to; what it has returned from is durable.
    note
        Told what an operator should know.
    """

    def __init__(self, host: Hypervisor, originals: Originals, note: Note) -> None:
        self._host, self._originals, self._note = host, originals, note
        self._kept = {settings.vm_id: settings for settings in originals.kept()}

    @property
    def altered(self) -> tuple[str, ...]:
        """VMs that may have been changed, by name."""
        return tuple(sorted(self._kept))

    def keep(self, vm_ids: Iterable[str]) -> dict[str, str]:
        """Keep how VMs are set, before they are changed; the reasons why some must not be changed."""
        refused: dict[str, str] = {}
        for vm_id in vm_ids:
            try:
                self._kept[vm_id] = self._originals.keep(self._host.settings(vm_id))
            except (HypervisorError, StoreError) as error:
                refused[vm_id] = f"its settings cannot be kept: {error}"
                self._note(f"{vm_id} is not changed: {refused[vm_id]}")
        return refused

    def confirm(self, vm_ids: Iterable[str]) -> None:
        """See to it that VMs that were just changed have entries: a watchdog may have dropped them meanwhile."""
        for vm_id in vm_ids:
            if vm_id in self._kept:
                try:
                    self._originals.keep(self._kept[vm_id])
                except StoreError as error:
                    self._note(f"{vm_id}: {error}")

    def put_back(self, vm_ids: Iterable[str] | None = None) -> PutBack:
        """Set VMs as they were, and forget those that are; None: all. What fails is left for the next call."""
        if vm_ids is None:
            self._kept = {s.vm_id: s for s in self._originals.kept()} | self._kept
        chosen = [self._kept[v] for v in (self.altered if vm_ids is None else vm_ids) if v in self._kept]
        result = put_back_each(self._host, self._originals, chosen)
        for vm_id in result.done:
            self._kept.pop(vm_id, None)
        for vm_id, reason in result.left:
            self._note(f"{vm_id} is not as it was yet: {reason}")
        return result

    def forget_gone(self, running: Iterable[str]) -> tuple[str, ...]:
        """Drop entries of VMs that do not run any more: their next start is from their definition."""
        gone = tuple(sorted(self._kept.keys() - set(running)))
        return self.put_back(gone).done if gone else ()

    def forget_older(self, vm_ids: Iterable[str]) -> tuple[str, ...]:
        """Drop entries of VMs that run anew, as they are defined; which they were."""
        dropped = []
        for vm_id in vm_ids:
            try:
                if self._host.settings(vm_id).incarnation != self._kept[vm_id].incarnation:
                    self._originals.forget(vm_id)
                    del self._kept[vm_id]
                    dropped.append(vm_id)
            except (HypervisorError, StoreError) as error:
                self._note(f"{vm_id}: {error}")
        return tuple(dropped)


def put_back_each(host: Restorer, originals: Originals, chosen: Iterable[VmSettings]) -> PutBack:
    """Set VMs as they were and forget each that is; the watchdog and ``forestall restore`` do the same.

    A change that is still under way counts as not done: its entry stays until there is nothing left to put back.
    """
    outcomes: list[Outcome] = []
    done: list[str] = []
    left: list[tuple[str, str]] = []
    for settings in chosen:
        try:
            mine = host.put_back(settings)
            outcomes += mine
            if open_ends := [o for o in mine if o.result is not Result.DONE]:
                left.append((settings.vm_id, "; ".join(f"{o.action.resource}: {_why(o)}" for o in open_ends)))
                continue
            originals.forget(settings.vm_id)
        except (HypervisorError, StoreError) as error:
            left.append((settings.vm_id, str(error)))
            continue
        done.append(settings.vm_id)
    return PutBack(tuple(outcomes), tuple(done), tuple(left))


def _why(outcome: Outcome) -> str:
    return outcome.reason or outcome.result.value
