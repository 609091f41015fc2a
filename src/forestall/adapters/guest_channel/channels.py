"""Channels of all VMs of a host: a thread with one task for each VM."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from forestall.adapters.guest_channel.channel import Channel
from forestall.model.errors import GuestError
from forestall.ports.guest_channel import Busiest, ChannelState, GuestWindow

CLOSE_SECONDS = 5.0
Item = TypeVar("Item")
Result = TypeVar("Result")


class GuestChannels:
    """A :class:`~forestall.ports.guest_channel.GuestChannel` over Unix sockets.

    Parameters
    ----------
    now
        The host's clock, seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[str, tuple[Channel, asyncio.Task[None]]] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="guest channels", daemon=True)
        self._thread.start()

    def follow(self, addresses: Mapping[str, str]) -> None:
        """Speak to these VMs, and to no others."""
        known = {vm_id: channel.address for vm_id, (channel, _) in self._tasks.items()}
        if dict(addresses) != known:
            self._run(self._follow(dict(addresses)), CLOSE_SECONDS)

    def windows(self) -> Sequence[GuestWindow]:
        """What came since the last call."""
        return [window for channel in self._channels() for window in _taken(channel.windows)]

    def busiest(self) -> Sequence[Busiest]:
        """What came since the last call."""
        return [busiest for channel in self._channels() for busiest in _taken(channel.busiest)]

    def ask(self, vm_id: str, what: str, argument: Any = None, patience_seconds: float = 5.0) -> Any:
        """Ask a guest, and wait."""
        return self._run(self._channel(vm_id).ask(what, argument), patience_seconds)

    def tell(self, vm_id: str, hint: Mapping[str, Any]) -> None:
        """Leave a hint."""
        self._loop.call_soon_threadsafe(self._channel(vm_id).tell, hint)

    def states(self) -> Mapping[str, ChannelState]:
        """How it stands with each VM."""
        return {channel.vm_id: channel.state() for channel in self._channels()}

    def close(self) -> None:
        """Hang up everywhere; may be called twice."""
        if self._loop.is_closed():
            return
        with suppress(GuestError):
            self._run(self._follow({}), CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        self._loop.close()

    async def _follow(self, addresses: dict[str, str]) -> None:
        gone = [vm_id for vm_id, (channel, _) in self._tasks.items() if addresses.get(vm_id) != channel.address]
        ended = [self._tasks.pop(vm_id)[1] for vm_id in gone]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        for vm_id, address in addresses.items():
            if vm_id not in self._tasks:
                channel = Channel(vm_id, address, self._now)
                self._tasks[vm_id] = (channel, self._loop.create_task(channel.run(), name=f"guest {vm_id}"))

    def _channels(self) -> list[Channel]:
        return [channel for channel, _ in list(self._tasks.values())]

    def _channel(self, vm_id: str) -> Channel:
        if vm_id not in self._tasks:
            raise GuestError(f"{vm_id}: has no channel to an agent")
        return self._tasks[vm_id][0]

    def _run(self, work: Coroutine[Any, Any, Result], patience_seconds: float) -> Result:
        """Run in the thread of the channels, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(patience_seconds)
        except TimeoutError:
            future.cancel()
            raise GuestError(f"no answer in {patience_seconds:.0f} s") from None


def _taken(waiting: deque[Item]) -> list[Item]:
    """Everything that waits, taken out; the other thread may go on adding."""
    return [waiting.popleft() for _ in range(len(waiting))]
