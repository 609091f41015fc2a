"""The loop over disks on tiers beside the daemon: in a thread, for libvirt may let it wait; asked by commands.

Whatever is asked is done by that thread, and waited for so long only: nobody else hangs when a disk or libvirt does.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from forestall.model.errors import ForestallError, StoreError, WrongUse, in_one_line
from forestall.staging.tiers.loop import TierLoop

MOST_MOVES = 100
LEAST_RATE, MOST_RATE = 1 << 20, 1 << 45
ANSWER_SECONDS, END_SECONDS = 20.0, 60.0
BUSY = "disks are looked after right now, and that takes long: libvirt, or a disk, lets it wait"


class Tiering:
    """Runs a loop, and answers about it.

    Parameters
    ----------
    loop
        The loop; made in this thread, used in its own.
    note
        Takes one line for the operator.
    answer_seconds
        So long an answer is waited for.
    """

    def __init__(self, loop: TierLoop, note: Callable[[str], None], answer_seconds: float = ANSWER_SECONDS) -> None:
        self._loop, self._note, self._answer_seconds = loop, note, answer_seconds
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tiers", daemon=True)
        self._said = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what is being copied is given up, so that nobody writes everything twice for nothing."""
        self.give_up("Forestall was ended")
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(END_SECONDS)

    def views(self) -> dict[str, Any]:
        """Tiers, and the disks on them."""

        def look() -> dict[str, Any]:
            return {
                "tiers": [asdict(view) for view in self._loop.tier_views()],
                "disks": [asdict(view) for view in self._loop.disk_views()],
            }

        found: dict[str, Any] = self._done(look)
        return found

    def moves(self) -> list[dict[str, Any]]:
        """The newest moves."""
        found: list[dict[str, Any]] = self._done(lambda: [asdict(move) for move in self._loop.moves(MOST_MOVES)])
        return found

    def order(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Move a disk because somebody wants it.

        Raises
        ------
        WrongUse
            The request cannot be meant.
        HypervisorError, StoreError
            It could not be begun, or that takes long: then it may be begun still.
        """
        vm_id, target, tier, rate = (request.get(key) for key in ("vm", "disk", "tier", "bytes_per_s"))
        if not (isinstance(vm_id, str) and isinstance(target, str) and isinstance(tier, str)):
            raise WrongUse("move-disk wants a vm, a disk and a tier")
        if not (rate is None or (type(rate) is int and LEAST_RATE <= rate <= MOST_RATE)):
            raise WrongUse(f"move-disk wants bytes_per_s from {LEAST_RATE} to {MOST_RATE}, or not at all")
        return asdict(self._done(lambda: self._loop.order(vm_id, target, tier, rate)))

    def cancel(self) -> dict[str, Any]:
        """End what is being moved.

        Raises
        ------
        WrongUse
            Nothing is.
        """
        move = self._done(lambda: self._loop.give_up("by order"))
        if move is None:
            raise WrongUse("no disk is being moved")
        return asdict(move)

    def give_up(self, why: str, vm_ids: Collection[str] | None = None) -> None:
        """End what is being moved of these VMs, or of any; at once, or as soon as that is possible."""
        if not self._thread.is_alive():
            return
        try:
            self._done(lambda: self._loop.give_up(why, vm_ids))
        except ForestallError as error:
            self._note(f"a disk may be being moved still: {error}")

    def _done(self, job: Callable[[], Any]) -> Any:
        """Have something done by the thread."""
        future: Future[Any] = Future()
        self._jobs.put((future, job))
        try:
            return future.result(self._answer_seconds)
        except TimeoutError:
            raise StoreError(BUSY) from None

    def _run(self) -> None:
        wait_seconds = 0.0
        while True:
            try:
                job = self._jobs.get(timeout=wait_seconds) if wait_seconds else self._jobs.get_nowait()
                if job is None:
                    return
                _carry_out(*job)
                wait_seconds = 0.0
                continue
            except queue.Empty:
                pass
            wait_seconds = 60.0
            try:
                wait_seconds = self._loop.beat()
                self._said = ""
            except Exception as error:  # whatever it is: the next look may do better
                if (said := in_one_line(error)) != self._said:
                    self._note(f"disks are not looked after: {said}")
                self._said = said


def _carry_out(future: Future[Any], job: Callable[[], Any]) -> None:
    try:
        future.set_result(job())
    except Exception as error:  # it is for who asked
        future.set_exception(error)
