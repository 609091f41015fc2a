"""How much of its memory each VM uses: looked at now and then, more seldom where looking costs more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from forestall.model.errors import Unsupported
from forestall.ports.guest_pages import GuestPages, UsedRange

PERIOD_SECONDS, MOST_PERIOD_SECONDS = 60.0, 3_600.0
SHARE = 0.1
"""Of what a VM's share of a core allows so much is for looking at what it uses."""


@dataclass(frozen=True)
class UsedMemory:
    """What a VM used of its memory.

    Attributes
    ----------
    used_bytes, all_bytes
        What it has read or written within the time, of how much.
    seconds
        The time.
    ranges
        Which parts of it, where that is known.
    """

    used_bytes: int
    all_bytes: int
    seconds: float
    ranges: tuple[UsedRange, ...] = ()


@dataclass
class _Look:
    """When a VM was looked at last, and is next; the second is infinite where its kernel does not tell."""

    at: float
    due_at: float


class Usage:
    """What VMs use.

    Parameters
    ----------
    cpu_seconds
        CPU time of this process.
    core_ratio
        Share of a core that there is for one VM.
    """

    def __init__(self, cpu_seconds: Callable[[], float], core_ratio: float) -> None:
        self._cpu_seconds, self._share = cpu_seconds, SHARE * core_ratio
        self._looks: dict[str, _Look] = {}
        self._used: dict[str, UsedMemory] = {}

    @property
    def used(self) -> Mapping[str, UsedMemory]:
        """What is known, by name of the VM."""
        return dict(self._used)

    def look(self, vm_id: str, pages: GuestPages, now: float) -> None:
        """Look at what a VM has used, if it is time.

        Raises
        ------
        HypervisorError
            The VM is gone.
        """
        last = self._looks.get(vm_id)
        if last is not None and now < last.due_at:
            return
        began = self._cpu_seconds()
        try:
            used = pages.used()
        except Unsupported:
            self._looks[vm_id] = _Look(now, float("inf"))
            return
        pause = (self._cpu_seconds() - began) / self._share
        if used is not None and last is not None:
            all_bytes = pages.pages * pages.page_bytes
            self._used[vm_id] = UsedMemory(used.used_bytes, all_bytes, now - last.at, used.ranges)
        self._looks[vm_id] = _Look(now, now + min(max(pause, PERIOD_SECONDS), MOST_PERIOD_SECONDS))

    def keep(self, vm_ids: Iterable[str]) -> None:
        """Forget all other VMs."""
        wanted = set(vm_ids)
        self._looks = {vm_id: look for vm_id, look in self._looks.items() if vm_id in wanted}
        self._used = {vm_id: used for vm_id, used in self._used.items() if vm_id in wanted}
