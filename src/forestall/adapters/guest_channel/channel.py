"""The channel of one VM: one task that connects, listens, measures round trips, passes on what is asked and told."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from forestall.adapters.guest_channel.inbox import Hello, Inbox, Reply, result_of
from forestall.guest.wire import Kind, as_json, encode
from forestall.model.errors import GuestError
from forestall.ports.guest_channel import LONG_FIELDS, Busiest, ChannelState, GuestWindow

_log = logging.getLogger(__name__)
READ_BYTES = 16 * 1024
BYTES_PER_S = 256 * 1024
READS_PER_S, READS_AT_ONCE = 100.0, 50.0
PAUSE_PER_DROP_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 2.0
"""What is dropped costs as much work as what is not: who sends nonsense is listened to less."""
PING_SECONDS, SILENCE_SECONDS = 1.0, 15.0
SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS = 0.2, 5.0
KEPT_WINDOWS, KEPT_TRIPS, RATE_SECONDS = 600, 600, 10.0
MAX_UNSENT_BYTES = 256 * 1024
_OWN_COST = [LONG_FIELDS.index(name) for name in ("agent_cpu_cores", "agent_memory_bytes")]


class Channel:
    """Speaks to the agent of one VM, for as long as :meth:`run` runs.

    Parameters
    ----------
    vm_id, address
        Who, and the Unix socket of the host's end of the port.
    now
        The host's clock, seconds.

    Attributes
    ----------
    windows, busiest
        What came and was not taken yet.
    """

    def __init__(self, vm_id: str, address: str, now: Callable[[], float]) -> None:
        self.vm_id, self.address = vm_id, address
        self.windows: deque[GuestWindow] = deque(maxlen=KEPT_WINDOWS)
        self.busiest: deque[Busiest] = deque(maxlen=8)
        self._now = now
        self._session = int.from_bytes(os.urandom(4), "little")
        self._sequences, self._identities = itertools.count(1), itertools.count(1)
        self._retired: deque[int] = deque(maxlen=64)
        self._writer: asyncio.StreamWriter | None = None
        self._inbox: Inbox | None = None
        self._hello: Hello | None = None
        self._hint: bytes | None = None
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._pinged: dict[int, float] = {}
        self._trips: deque[float] = deque(maxlen=KEPT_TRIPS)
        self._came: deque[float] = deque(maxlen=KEPT_WINDOWS)
        self._dropped: dict[str, int] = {}
        self._own_cost = (float("nan"), float("nan"))

    async def run(self) -> None:
        """Connect, converse, and connect again when the other end has hung up, until cancelled."""
        rest = SHORTEST_REST_SECONDS
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self.address, limit=READ_BYTES)
                try:
                    await self._converse(reader)
                finally:
                    if self._hello is not None:
                        rest = SHORTEST_REST_SECONDS
                    self._hang_up()
            except OSError as error:
                _log.debug("%s: %s", self.vm_id, error)  # nobody there yet, or no longer
            except Exception:  # a defect must not end it: this guest would never be followed again
                _log.exception("the channel to %s begins anew", self.vm_id)
            await asyncio.sleep(rest * (0.75 + 0.5 * np.random.default_rng().random()))
            rest = min(2 * rest, LONGEST_REST_SECONDS)

    async def ask(self, what: str, argument: Any) -> Any:
        """Ask for something; the refusal of the guest, or of its agent to be there, is an error (GuestError)."""
        if self._hello is None:
            raise GuestError(f"{self.vm_id}: no agent speaks there")
        identity = next(self._identities)
        answer = self._asked[identity] = asyncio.get_running_loop().create_future()
        try:
            self._send(Kind.REQUEST, {"id": identity, "do": what, "with": argument})
            return await answer
        finally:
            self._asked.pop(identity, None)

    def tell(self, hint: Mapping[str, Any]) -> None:
        """Send a hint, now or when there is somebody."""
        self._hint = as_json(dict(hint))
        self._pass_hint_on()

    def state(self) -> ChannelState:
        """How it stands."""
        now = self._now()
        trips = np.percentile(list(self._trips), [50, 99]) if self._trips else (np.nan, np.nan)
        came = list(self._came)
        return ChannelState(
            connected=self._writer is not None,
            speaking=self._hello is not None,
            agent=self._hello.agent if self._hello else 0,
            kernel=self._hello.kernel if self._hello else "",
            windows_per_s=sum(now - at <= RATE_SECONDS for at in came) / RATE_SECONDS,
            age_seconds=max(0.0, now - came[-1]) if came else float("inf"),
            round_trip_seconds=(float(trips[0]), float(trips[1])),
            lost=self._inbox.lost if self._inbox else 0,
            dropped=self._all_dropped(),
            agent_cpu_cores=self._own_cost[0],
            agent_memory_bytes=self._own_cost[1],
        )

    async def _converse(self, reader: asyncio.StreamReader) -> None:
        """Listen until the other end hangs up (or says nothing for long: then a new connection may help)."""
        loop = asyncio.get_running_loop()
        self._inbox = inbox = Inbox(self.vm_id, self._retired)
        self._send(Kind.REQUEST, {"id": 0, "do": "hello"})
        ping_at, heard_at, dropped = loop.time() + PING_SECONDS, loop.time(), 0
        reads, read_at = READS_AT_ONCE, heard_at
        while True:
            try:
                async with asyncio.timeout_at(ping_at):
                    chunk = await reader.read(READ_BYTES)
            except TimeoutError:
                ping_at = max(ping_at + PING_SECONDS, loop.time() + PING_SECONDS / 2)
                self._ping(loop.time())
                if self._hello is not None and loop.time() - heard_at > SILENCE_SECONDS:
                    return
                continue
            if not chunk:
                return
            heard_at = loop.time()
            for message in inbox.feed(chunk, self._now()):
                self._take(message, loop.time())
            total = sum(inbox.dropped.values())
            pause = len(chunk) / BYTES_PER_S if len(chunk) == READ_BYTES else 0.0
            pause += (total - dropped) * PAUSE_PER_DROP_SECONDS
            dropped = total
            reads = min(READS_AT_ONCE, reads + (heard_at - read_at) * READS_PER_S) - 1.0
            read_at = heard_at
            pause += max(0.0, -reads / READS_PER_S)
            if pause > 0.0:
                await asyncio.sleep(min(pause, LONGEST_PAUSE_SECONDS))

    def _take(self, message: Hello | GuestWindow | Busiest | Reply, now: float) -> None:
        if isinstance(message, GuestWindow):
            self.windows.append(message)
            if message.long:
                self._own_cost = (float(message.values[_OWN_COST[0]]), float(message.values[_OWN_COST[1]]))
            else:
                self._came.append(self._now())
        elif isinstance(message, Busiest):
            self.busiest.append(message)
        elif isinstance(message, Reply):
            self._replied(message, now)
        else:
            self._hello = message
            self._pass_hint_on()

    def _replied(self, reply: Reply, now: float) -> None:
        if (sent := self._pinged.pop(reply.id, None)) is not None:
            self._trips.append(now - sent)
        elif (asked := self._asked.get(reply.id)) is not None and not asked.done():
            if reply.error:
                asked.set_exception(GuestError(f"{self.vm_id}: refused: {json.dumps(reply.error)[1:-1]}"))
                return
            try:
                asked.set_result(result_of(reply))
            except ValueError as error:
                asked.set_exception(GuestError(f"{self.vm_id}: {error}"))

    def _ping(self, now: float) -> None:
        """Ask for an echo, if the last was heard; one that never comes is forgotten after a while."""
        self._pinged = {identity: at for identity, at in self._pinged.items() if now - at < SILENCE_SECONDS}
        if self._hello is None:
            self._send(Kind.REQUEST, {"id": 0, "do": "hello"})
        elif not self._pinged:
            self._pinged[identity := next(self._identities)] = now
            self._send(Kind.REQUEST, {"id": identity, "do": "ping"})

    def _pass_hint_on(self) -> None:
        if self._hello is not None and self._hint is not None:
            self._send_payload(Kind.HINT, self._hint)

    def _send(self, kind: Kind, message: dict[str, Any]) -> None:
        self._send_payload(kind, as_json(message))

    def _send_payload(self, kind: Kind, payload: bytes) -> None:
        """Send, unless the guest does not read: what it has not read yet is enough."""
        if self._writer is None:
            raise GuestError(f"{self.vm_id}: no agent speaks there")
        if self._writer.transport.get_write_buffer_size() < MAX_UNSENT_BYTES:
            self._writer.write(encode(kind, self._session, next(self._sequences), payload))

    def _hang_up(self) -> None:
        """Let go of the connection; who waits for an answer learns that none comes."""
        if self._writer is not None:
            self._writer.close()
        self._dropped = self._all_dropped()
        self._writer = self._inbox = self._hello = None
        self._pinged.clear()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(GuestError(f"{self.vm_id}: the agent hung up"))

    def _all_dropped(self) -> dict[str, int]:
        now = self._inbox.dropped if self._inbox else {}
        return {reason: self._dropped.get(reason, 0) + now.get(reason, 0) for reason in {**self._dropped, **now}}
