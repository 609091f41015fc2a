"""Those who borrow cores: limited to what is lent, and put back as they were.

Before a borrower is touched for the first time, how it was set is on the disk, and the guard knows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from forestall.burst.lending import among, whole
from forestall.burst.place import Place
from forestall.model.errors import HypervisorError, StoreError
from forestall.ports.cores import CoreGuard, CoreHost
from forestall.ports.hypervisor import VmSettings
from forestall.ports.originals import Originals


class Borrowers:
    """Borrowers of one host.

    Parameters
    ----------
    host
        The cores.
    guard
        Puts borrowers back if this process ends.
    originals
        Durable memory of how they were set.
    whole_cores
        Whether they are given whole cores, as many as there are in what is lent.

    Attributes
    ----------
    limits
        Cores that each may use, or might if it were touched.
    refusals
        What could not be set or put back, and why.
    """

    def __init__(self, host: CoreHost, guard: CoreGuard, originals: Originals, *, whole_cores: bool) -> None:
        self._host, self._guard, self._originals = host, guard, originals
        self._whole_cores = whole_cores
        # How they were that are limited now; those of which the entry on the disk is to be dropped still.
        self._limited: dict[str, VmSettings] = {}
        self._entries_left: set[str] = set()
        self.limits: dict[str, float] = {}
        self.refusals: dict[str, str] = {}

    def share_out(self, lent: float, borrowers: Sequence[Place]) -> None:
        """Limit these to what is lent, by weight; nobody is stopped."""
        if not borrowers:
            return
        weight = np.array([place.weight for place in borrowers])
        most = np.array([place.frame_cores for place in borrowers])
        cores = np.maximum(among(lent, weight, most), self._host.least_cores())
        cores = whole(cores) if self._whole_cores else cores
        self.limits = {place.guest.vm_id: float(c) for place, c in zip(borrowers, cores, strict=True)}
        acting = {p.guest.vm_id: self.limits[p.guest.vm_id] for p in borrowers if self._ready(p)}
        for refusal in self._host.limit(acting) if acting else ():
            self.refusals[refusal.vm_id] = refusal.reason

    def leave_only(self, places: Mapping[str, Place], before: Mapping[str, Place]) -> None:
        """Put back those that are not to be touched any more, or are not the run of the VM that they were before."""
        for vm_id in sorted(self._limited):
            place, earlier = places.get(vm_id), before.get(vm_id)
            if place is None or earlier is None or not place.acting or place.guest != earlier.guest:
                self._put_back(vm_id)
        self.limits = {vm_id: cores for vm_id, cores in self.limits.items() if vm_id in places}

    def try_again(self, places: Mapping[str, Place]) -> None:
        """Put back who should be and is not, and drop entries that could not be dropped."""
        for vm_id in sorted(self._limited):
            place = places.get(vm_id)
            if place is None or not place.acting:
                self._put_back(vm_id)
        if self._entries_left:
            self._drop_entries()

    def put_back_all(self) -> dict[str, str]:
        """Put everybody back; those that could not be, and why."""
        left = {vm_id: self._put_back(vm_id) for vm_id in sorted(self._limited)}
        return {vm_id: reason for vm_id, reason in left.items() if reason}

    def _ready(self, place: Place) -> bool:
        """Whether one can be limited: there is a guard, how it was is safe, and it gives way."""
        vm_id = place.guest.vm_id
        if not place.acting or not self._guard.alive():
            return False
        if vm_id in self._limited:
            return True
        try:
            kept = self._originals.keep(self._host.settings(vm_id))
        except (StoreError, HypervisorError) as error:
            self.refusals[vm_id] = str(error)
            return False
        self._guard.cover(kept)
        if not self._guard.alive():
            return False
        self._limited[vm_id] = kept
        if refusal := self._host.make_way(vm_id):
            self._put_back(vm_id)
            self.refusals[vm_id] = f"it does not give way: {refusal}"
            return False
        self.refusals.pop(vm_id, None)
        return True

    def _put_back(self, vm_id: str) -> str:
        """Set one as it was; why not, if not: it is tried again."""
        if refusal := self._host.put_back(self._limited[vm_id]):
            self.refusals[vm_id] = f"not as it was: {refusal}"
            return refusal
        del self._limited[vm_id]
        self.limits.pop(vm_id, None)
        self._guard.release(vm_id)
        self._entries_left.add(vm_id)
        self._drop_entries()
        return ""

    def _drop_entries(self) -> None:
        """Drop the entries of those that were put back; one that cannot be dropped now is tried again."""
        for vm_id in sorted(self._entries_left - self._limited.keys()):
            try:
                self._originals.forget(vm_id)
                self._entries_left.discard(vm_id)
            except StoreError as error:
                self.refusals[vm_id] = str(error)
