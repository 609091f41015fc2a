"""The staging area on a live host: what is populated for VMs, within its bounds, and how it is given back.

Only giving back lets a VM stand still: for about a millisecond, and for a small share of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from forestall.model.errors import HypervisorError, Unsupported
from forestall.staging.ledger import Account, Ledger
from forestall.staging.watched import Watched

NO_ROOM, NO_MEMORY = "the staging area is full", "the host has too little free memory"
STANDING_SHARE = 0.005
"""A VM stands still for at most this share of the time, so that pages can be given back."""
ATTEMPTS, AGAIN_SECONDS = 3, 0.5
"""A VM that cannot be brought to rest is asked so often; then what it was about is left with the VM."""
AT_ONCE_BYTES = 4 << 20
"""So much is given back in one moment."""
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class ShadowSettings:
    """How memory is staged.

    Attributes
    ----------
    staged_bytes
        For all VMs together, at most.
    block_bytes
        Memory is staged in blocks of this size.
    keep_free_bytes
        Nothing is staged while the host has less free memory.
    least_precision
        A trust group of whose staged pages less are touched is not staged for.
    core_ratio_per_ten_vms
        Share of a core that the loop may use for ten VMs, or for a part of them.
    quick_seconds, calm_seconds, tired_seconds
        From one beat to the next; see :class:`~forestall.staging.budget.CoreBudget`.
    """

    staged_bytes: int = 256 << 20
    block_bytes: int = 1 << 20
    keep_free_bytes: int = 1 << 30
    least_precision: float = 0.5
    core_ratio_per_ten_vms: float = 0.01
    quick_seconds: float = 0.01
    calm_seconds: float = 0.1
    tired_seconds: float = 1.0


class StagingArea:
    """What is staged for all VMs.

    Parameters
    ----------
    vms
        All that are shadowed; the driver's.
    settings
        Its bounds.
    free_bytes
        Free memory of the host.
    now
        Monotonic time.

    Attributes
    ----------
    refusals
        VMs for which nothing can be staged, and why.
    lost
        VMs that turned out to be gone.
    """

    def __init__(
        self,
        vms: Mapping[int, Watched],
        settings: ShadowSettings,
        free_bytes: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self._vms, self._settings, self._free_bytes, self._now = vms, settings, free_bytes, now
        self._free: int | None = None
        self.ledger = Ledger(settings.least_precision)
        self.refusals: dict[str, str] = {}
        self.lost: set[str] = set()

    def begin_beat(self) -> None:
        """Ask the host anew how much memory it has to spare, when that is first needed."""
        self._free = None

    def account(self, vm: Watched) -> Account:
        """The account of a VM's trust group."""
        return self.ledger.of(vm.place.group)

    @contextmanager
    def losing(self, vm: Watched) -> Iterator[None]:
        """Go on when something is wrong with a VM: it is gone, or something writes to it now even while it stands."""
        try:
            yield
        except Unsupported as error:
            self.refusals[vm.place.vm_id] = str(error)
            vm.silenced = True
        except HypervisorError as error:
            self.refusals[vm.place.vm_id] = str(error)
            self.lost.add(vm.place.vm_id)

    def staged_bytes(self) -> int:
        """What is staged for all VMs together."""
        return sum(vm.shadow.staged_pages * vm.pages.page_bytes for vm in self._vms.values())

    def stage(self, vm: Watched, block: int, *, until: float | None = None) -> str | None:
        """Stage a block; why not, if that may be otherwise later.

        Parameters
        ----------
        vm, block
            Which.
        until
            It was asked for, and is kept until then; None: it is predicted, and kept for the horizon.
        """
        account, since = self.account(vm), self._now() if until is None else until - vm.place.horizon_seconds
        acting = vm.may_act and (account.worth.pays or until is not None)
        seen = vm.look(block)  # what the VM took meanwhile was not staged for it
        account.touched(seen.hits, seen.misses)
        vm.going.pop(block, None)
        missing = vm.shadow.missing(block)
        new = missing if block in vm.real or not acting else vm.shadow.lacking(block)
        if not self._has_room(missing * vm.pages.page_bytes):
            return NO_ROOM
        if acting and not self._is_free(new * vm.pages.page_bytes):
            return NO_MEMORY
        began = self._now()
        if acting and new:
            try:
                vm.pages.populate(*vm.shadow.range_of(block))
            except Unsupported:
                raise
            except HypervisorError as error:
                return str(error)
            vm.real.add(block)
        account.staged(vm.shadow.stage(block, since), self._now() - began if acting else 0.0)
        vm.shadow.renew(block, since)
        return None

    def _is_free(self, size_bytes: int) -> bool:
        """Whether the host has so much memory to spare; it is asked once a beat."""
        self._free = self._free_bytes() - self._settings.keep_free_bytes if self._free is None else self._free
        if self._free < size_bytes:
            return not size_bytes
        self._free -= size_bytes
        return True

    def _has_room(self, size_bytes: int) -> bool:
        """Make room in the staging area: what has been there longest goes."""
        while size_bytes and self.staged_bytes() + size_bytes > self._settings.staged_bytes:
            (since, block), vm = min(((vm.shadow.oldest(), vm) for vm in self._vms.values()), key=lambda pair: pair[0])
            if since >= self._now():  # there is nothing, or it was asked for
                return False
            vm.going.setdefault(block, True)
            if not self.give_back(vm):
                return False
        return True

    def give_all_back(self, vm: Watched) -> None:
        """Give everything back that is staged for a VM, as far as a few seconds go."""
        until = self._now() + STOP_SECONDS
        vm.going = dict.fromkeys(vm.shadow.staged_blocks().tolist(), False) | vm.going
        while vm.going and self._now() <= until and vm.place.vm_id not in self.lost:
            vm.may_give_back_at = 0.0
            if not self.give_back(vm):
                break

    def give_back(self, vm: Watched) -> bool:
        """Give back some of what is to go, in one moment; False: not now. Pages that turn out to be touched stay."""
        blocks = list(vm.going)[: max(AT_ONCE_BYTES // (vm.shadow.block_pages * vm.pages.page_bytes), 1)]
        if any(block in vm.real for block in blocks) and not self._given_back(vm, blocks):
            return False
        account = self.account(vm)
        for block in blocks:
            with self.losing(vm):
                seen = vm.look(block)
                account.touched(seen.hits, seen.misses)
            account.returned(vm.shadow.gone(block), wasted=vm.going.pop(block))
            vm.real.discard(block)
        return bool(blocks)

    def _given_back(self, vm: Watched, blocks: Sequence[int]) -> bool:
        """Have the host take staged pages back; False: the VM has stood still not long ago, or could not."""
        if self._now() < vm.may_give_back_at:
            return False
        with self.losing(vm):
            asked = np.concatenate([vm.shadow.staged_in(block) for block in blocks if block in vm.real])
            stood = vm.pages.stood_seconds
            given = vm.pages.give_back(asked)
            took = vm.pages.stood_seconds - stood
            self.account(vm).stood(took)
            vm.may_give_back_at = self._now() + took / STANDING_SHARE
            if len(asked) and not len(given) and vm.refused < ATTEMPTS:
                vm.refused += 1
                vm.may_give_back_at += AGAIN_SECONDS
                return False
        vm.refused = 0
        return True
