"""How much of its memory a guest uses, from what its balloon driver says, or from outside where it says nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)
_STALE_SECONDS = 30.0


class GuestMemory:
    """Memory demand of VMs; remembers when each guest last said something.

    ``usable`` is what the guest could use without swapping (``MemAvailable``); what it has, less that, is in use.
    A guest that does not say, or no longer, is taken at the resident size of its process, which only ever
    grows; that is noted once for each run of a VM. libvirt leaves all of this out while something else is being done
    with the VM: that is a gap, noted only if it lasts.
    """

    def __init__(self, stale_seconds: float = _STALE_SECONDS) -> None:
        self._stale_seconds = stale_seconds
        self._said: dict[str, tuple[Any, float]] = {}
        self._noted: dict[str, str] = {}
        self._unknown_since: dict[str, float] = {}

    def used_bytes(self, vm_id: str, run: str, stats: Mapping[str, Any], now: float) -> float:
        """Bytes in use, from the ``balloon.*`` figures of one VM (in KiB); NaN where nothing tells.

        Parameters
        ----------
        now
            Instant of the figures, on a clock that never goes back.
        """
        current, usable = stats.get("balloon.current"), stats.get("balloon.usable")
        if current is not None and usable is not None and self._is_fresh(vm_id, stats.get("balloon.last-update"), now):
            self._unknown_since.pop(vm_id, None)
            return max(float(current) - float(usable), 0.0) * 1024
        resident = stats.get("balloon.rss")
        if resident is not None:
            self._unknown_since.pop(vm_id, None)
            self._note(vm_id, run, "taking the resident size of its process")
            return float(resident) * 1024
        if now - self._unknown_since.setdefault(vm_id, now) > self._stale_seconds:
            self._note(vm_id, run, "its memory is not known")
        return math.nan

    def _note(self, vm_id: str, run: str, instead: str) -> None:
        if self._noted.get(vm_id) != run:
            self._noted[vm_id] = run
            _log.warning("%s: the guest reports no memory statistics; %s", vm_id, instead)

    def forget(self, vm_id: str) -> None:
        """A VM is gone."""
        self._said.pop(vm_id, None)
        self._noted.pop(vm_id, None)
        self._unknown_since.pop(vm_id, None)

    def _is_fresh(self, vm_id: str, update: Any, now: float) -> bool:
        """Whether a guest has said something new lately; ``update`` is when it did, on whatever clock."""
        if update is None:
            return True
        if vm_id not in self._said or self._said[vm_id][0] != update:
            self._said[vm_id] = (update, now)
        return now - self._said[vm_id][1] <= self._stale_seconds
