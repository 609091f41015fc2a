"""The staging area on a live host: what is populated for VMs, within its bounds, and how it is given back.

Only giving back lets a VM stand still: for about a millisecond, and for a small share of the time. What could not be
given back stays in the account, and is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from forestall.model.errors import HypervisorError, Unsupported
from forestall.model.samples import IntArray
from forestall.staging.ledger import Account, Group, Ledger
from forestall.staging.shadow import NOTHING
from forestall.staging.watched import Watched

NO_ROOM, NO_MEMORY = "the staging area is full", "the host has too little free memory"
RESTLESS = "what was staged could not be given back: the VM does not come to rest"
STANDING_SHARE = 0.005
"""A VM stands still for at most this share of the time, so that pages can be given back."""
ATTEMPTS, AGAIN_SECONDS, MOST_AGAIN_SECONDS = 3, 0.5, 30.0
"""Nothing more is staged for a VM that was so often not brought to rest; it is tried again after growing pauses."""
AT_ONCE_BYTES = 4 << 20
"""So much is given back in one moment."""


@dataclass(frozen=True)
class ShadowSettings:
    """How memory is staged.

    Attributes
    ----------
    staged_bytes
        For all VMs together, at most; and as much again may be followed without being staged.
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
    let_go
        Told of a block that had to make room.

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
        let_go: Callable[[int, int], None],
    ) -> None:
        self._vms, self._settings, self._free_bytes, self._now, self._let_go = vms, settings, free_bytes, now, let_go
        self._free: int | None = None
        self.ledger = Ledger(settings.least_precision)
        self.refusals: dict[str, str] = {}
        self.lost: set[str] = set()

    def begin_beat(self) -> None:
        """Ask the host anew how much memory it has to spare, when that is first needed."""
        self._free = None

    def account(self, vm: Watched) -> Account:
        """The account of a VM's trust group."""
        return self.ledger.of(Group(vm.place.group, vm.place.generation))

    def acts(self, vm: Watched) -> bool:
        """Whether what is predicted for a VM is staged, and not only followed."""
        return vm.may_act and self.account(vm).worth.pays

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

    def staged_bytes(self, *, real: bool = True) -> int:
        """What is staged for all VMs together; or what is only followed."""
        return sum(_pages(vm, real=real) * vm.pages.page_bytes for vm in self._vms.values())

    def stage(self, vm: Watched, block: int, *, until: float | None = None) -> str | None:
        """Stage a block; why not, if that may be otherwise later.

        Parameters
        ----------
        vm, block
            Which.
        until
            It was asked for, and is kept until then; None: it is predicted, and kept for the horizon.
        """
        vm.look(block)  # what the VM took meanwhile was not staged for it
        vm.going.pop(block, None)
        account, shadow = self.account(vm), vm.shadow
        real = self.acts(vm) or (vm.may_act and until is not None)
        missing = shadow.missing(block)
        new = missing if shadow.is_real(block) or not real else shadow.lacking(block)
        if not self._has_room(new * vm.pages.page_bytes, real=real):
            return NO_ROOM
        if real and not self._is_free(new * vm.pages.page_bytes):
            return NO_MEMORY
        began = self._now()
        if real and new:
            try:
                vm.pages.populate(*shadow.range_of(block))
            except Unsupported:
                raise
            except HypervisorError as error:
                first, count = shadow.range_of(block)
                before = shadow.staged_pages
                shadow.adopt(block, vm.pages.populated(first, count), began)  # as far as it went
                account.staged(shadow.staged_pages - before)
                return str(error)
            account.staged(missing, new, self._now() - began)
        else:
            account.staged(missing)
        shadow.stage(block, began, real=real)
        if until is not None:
            shadow.keep(block, until)
        return None

    def _is_free(self, size_bytes: int) -> bool:
        """Whether the host has so much memory to spare; it is asked once a beat."""
        self._free = self._free_bytes() - self._settings.keep_free_bytes if self._free is None else self._free
        if self._free < size_bytes:
            return not size_bytes
        self._free -= size_bytes
        return True

    def _has_room(self, size_bytes: int, *, real: bool) -> bool:
        """Make room in the staging area: what has been there longest goes."""
        while size_bytes and self.staged_bytes(real=real) + size_bytes > self._settings.staged_bytes:
            now = self._now()
            (since, block), vm = min(
                ((vm.shadow.oldest(now, real=real), vm) for vm in self._vms.values()), key=lambda pair: pair[0]
            )
            if since == NOTHING:
                return False
            self._let_go(vm.number, block)
            vm.going.setdefault(block, False)  # it had to make room: nobody knows whether it would have been touched
            if not self.give_back(vm):
                return False
        return True

    def give_all_back(self, vm: Watched, until: float) -> int:
        """Give everything back that is staged for a VM, as far as the time goes; bytes that the host still holds."""
        vm.going = dict.fromkeys(vm.shadow.staged_blocks().tolist(), False) | vm.going
        attempts = 0
        while vm.going and self._now() <= until and attempts < ATTEMPTS * 4 and vm.place.vm_id not in self.lost:
            vm.may_give_back_at = 0.0
            attempts += not self.give_back(vm)
        return 0 if vm.place.vm_id in self.lost else _pages(vm, real=True) * vm.pages.page_bytes

    def give_back(self, vm: Watched) -> bool:
        """Give back some of what is to go, in one moment; False: nothing went. What turns out to be touched stays."""
        if not vm.going and not vm.silenced:
            return False
        shadow, account = vm.shadow, self.account(vm)
        at_once = max(AT_ONCE_BYTES // (shadow.block_pages * vm.pages.page_bytes), 1)
        blocks = list(vm.going)[:at_once]
        real = [block for block in blocks if shadow.is_real(block)]
        asked, given = self._given_back(vm, real) if real or vm.silenced else (_NO_PAGES, _NO_PAGES)
        progress = False
        for block in blocks:
            wasted, first = vm.going[block], shadow.range_of(block)[0]
            if shadow.is_real(block):
                own = (asked >= first) & (asked < first + shadow.block_pages)
                shadow.unstage(block, asked[own])
                account.returned(int(((given >= first) & (given < first + shadow.block_pages)).sum()), wasted=wasted)
            else:
                account.returned(shadow.unstage(block), wasted=wasted)
            if not shadow.holds(block):
                del vm.going[block]
                progress = True
        return progress or len(given) > 0

    def _given_back(self, vm: Watched, blocks: Sequence[int]) -> tuple[IntArray, IntArray]:
        """Have the host take staged pages back: those that are settled now, and those of them that went.

        What is neither touched nor went in a moment of rest is not zeros: it is the VM's, and settled too.
        """
        if self._now() < vm.may_give_back_at:
            return _NO_PAGES, _NO_PAGES
        asked, given, could = _NO_PAGES, _NO_PAGES, False
        with self.losing(vm):
            asked = np.concatenate([_NO_PAGES, *(self._there(vm, block) for block in blocks)])
            asked = asked[: AT_ONCE_BYTES // vm.pages.page_bytes]
            stood = vm.pages.stood_seconds
            given = vm.pages.give_back(asked)
            took = vm.pages.stood_seconds - stood
            self.account(vm).stood(took)
            vm.may_give_back_at = self._now() + took / STANDING_SHARE
            could = len(given) > 0 or not len(asked)
        if could:
            if vm.refused:
                vm.refused, vm.silenced = 0, False
                self.refusals.pop(vm.place.vm_id, None)
            elif vm.silenced:  # for another reason, which giving back does not mend
                vm.may_give_back_at = self._now() + MOST_AGAIN_SECONDS
            return asked, given
        vm.may_give_back_at = self._now() + min(AGAIN_SECONDS * 2.0**vm.refused, MOST_AGAIN_SECONDS)
        vm.refused += 1
        if vm.refused >= ATTEMPTS and not vm.silenced:
            vm.silenced = True
            self.refusals[vm.place.vm_id] = RESTLESS
        return _NO_PAGES, _NO_PAGES

    @staticmethod
    def _there(vm: Watched, block: int) -> IntArray:
        """Pages of a block that are staged still: neither taken by the VM nor, by its balloon, from the host."""
        vm.look(block)
        first, count = vm.shadow.range_of(block)
        staged = vm.shadow.staged_in(block)
        there = vm.pages.populated(first, count)[staged - first]
        vm.shadow.unstage(block, staged[~there])
        return staged[there]


_NO_PAGES: IntArray = np.zeros(0, np.int64)


def _pages(vm: Watched, *, real: bool) -> int:
    return vm.shadow.real_pages if real else vm.shadow.staged_pages - vm.shadow.real_pages
