"""The loop over disks on tiers beside the daemon: in a thread, for libvirt may let it wait; asked by commands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

from forestall.model.errors import ForestallError, WrongUse, in_one_line
from forestall.staging.tiers.loop import TierLoop

MOST_MOVES = 100


class Tiering:
    """Runs a loop, and answers about it.

    Parameters
    ----------
    loop
        The loop.
    note
        Takes one line for the operator.
    """

    def __init__(self, loop: TierLoop, note: Callable[[str], None]) -> None:
        self._loop, self._note = loop, note
        self._turn = threading.Lock()
        self._woken, self._over = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="tiers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what is being copied is given up, so that nobody writes everything twice for nothing."""
        self._over = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()
        self.give_up("Forestall was ended")

    def views(self) -> dict[str, Any]:
        """Tiers, and the disks on them."""
        with self._turn:
            return {
                "tiers": [asdict(view) for view in self._loop.tier_views()],
                "disks": [asdict(view) for view in self._loop.disk_views()],
            }

    def moves(self) -> list[dict[str, Any]]:
        """The newest moves."""
        with self._turn:
            return [asdict(move) for move in self._loop.moves(MOST_MOVES)]

    def order(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Move a disk because somebody wants it.

        Raises
        ------
        WrongUse
            The request cannot be meant.
        HypervisorError, StoreError
            It could not be begun.
        """
        vm_id, target, tier, rate = (request.get(key) for key in ("vm", "disk", "tier", "bytes_per_s"))
        if not (isinstance(vm_id, str) and isinstance(target, str) and isinstance(tier, str)):
            raise WrongUse("move-disk wants a vm, a disk and a tier")
        if not (rate is None or (type(rate) is int and rate > 0)):
            raise WrongUse("move-disk wants bytes_per_s as a whole number, or not at all")
        with self._turn:
            move = self._loop.order(vm_id, target, tier, rate)
        self._woken.set()
        return asdict(move)

    def cancel(self) -> dict[str, Any]:
        """End what is being moved.

        Raises
        ------
        WrongUse
            Nothing is.
        """
        with self._turn:
            move = self._loop.give_up("by order")
        if move is None:
            raise WrongUse("no disk is being moved")
        return asdict(move)

    def give_up(self, why: str, vm_ids: Collection[str] | None = None) -> None:
        """End what is being moved of these VMs, or of any."""
        try:
            with self._turn:
                self._loop.give_up(why, vm_ids)
        except ForestallError as error:
            self._note(f"a disk is being moved still: {error}")

    def _run(self) -> None:
        while not self._over:
            wait_seconds = 60.0
            try:
                with self._turn:
                    wait_seconds = self._loop.beat()
            except Exception as error:  # whatever it is: the next look may do better
                self._note(f"disks are not looked after: {in_one_line(error)}")
            self._woken.wait(wait_seconds)
            self._woken.clear()
