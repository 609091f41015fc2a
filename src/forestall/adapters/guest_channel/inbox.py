"""What comes from a guest, made harmless: bytes in, checked values out. No I/O; time is an argument.

Whatever the bytes are, memory stays within a frame, nothing is raised, and what is dropped is counted by its reason:

``bytes``, ``version``, ``oversized``, ``checksum``  no frame of ours (see ``guest.wire``);
``session``                                          of an agent that has not said hello on this connection;
``replayed``                                         number not above the last, or the session of an agent that is gone;
``kind``                                             unknown, or the host's own;
``malformed``                                        a payload that is not what its kind says;
``order``                                            a window that ends before, or with, one that was told earlier;
``flood``                                            more than a guest may say.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Annotated, Any

import msgspec
import numpy as np

from forestall.guest.operations import NUMBER
from forestall.guest.wire import MAX_FIELDS, MAX_OPERATIONS, Frame, FrameReader, Kind, Window
from forestall.model.samples import FloatArray, IntArray
from forestall.ports.guest_channel import LONG_FIELDS, SHORT_FIELDS, Busiest, GuestWindow

LARGEST = 1e15
LONGEST_WINDOW_US, SHORTEST_WINDOW_US = 10_000_000, 1_000
RETIRED_SESSIONS = 64
MESSAGES_PER_S, MESSAGES_AT_ONCE = 200.0, 400.0
NEVER_BACK = 1e-4
"""How fast the mapping of the guest's clock to ours may move towards later, seconds a second: clocks drift."""

Name = Annotated[str, msgspec.Meta(max_length=64)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_FIELDS)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=LARGEST)]


class Hello(msgspec.Struct):
    """Who speaks, and what its numbers are; what else is told is passed over."""

    agent: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    short: Names
    long: Names
    operations: Annotated[tuple[Name, ...], msgspec.Meta(max_length=256)]
    kernel: Name = ""


class Row(msgspec.Struct):
    """What a process or a control group does."""

    name: Name
    cpu_cores: Rate = 0.0
    faults_per_s: Rate = 0.0
    read_bytes_per_s: Rate = 0.0
    write_bytes_per_s: Rate = 0.0


Rows = Annotated[tuple[Row, ...], msgspec.Meta(max_length=64)]


class BusiestMessage(msgspec.Struct):
    """The busiest."""

    processes: Rows = ()
    groups: Rows = ()


class Reply(msgspec.Struct):
    """What came of a request."""

    id: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Annotated[str, msgspec.Meta(max_length=1024)] = ""


Message = Hello | GuestWindow | Busiest | Reply
_HELLO, _REPLY = msgspec.json.Decoder(Hello), msgspec.json.Decoder(Reply)
_BUSIEST = msgspec.json.Decoder(BusiestMessage)


class Inbox:
    """Everything that one guest says on one connection.

    Parameters
    ----------
    vm_id
        Who.
    retired
        Sessions of agents that are gone; survives a connection.

    Attributes
    ----------
    lost
        Frames that the guest says it could not send.
    """

    def __init__(self, vm_id: str, retired: deque[int] | None = None) -> None:
        self._vm_id = vm_id
        self._reader = FrameReader()
        self._counted: Counter[str] = Counter()
        self._retired: deque[int] = deque(maxlen=RETIRED_SESSIONS) if retired is None else retired
        self._session: int | None = None
        self._sequence = 0
        self._ends_us = {Kind.SHORT: 0, Kind.LONG: 0}
        self._places: dict[int, tuple[IntArray, IntArray]] = {}
        self._operations: list[int] = []
        self._offset = math.inf
        self._offset_at = 0.0
        self._allowed, self._allowed_at = MESSAGES_AT_ONCE, -math.inf
        self.lost = 0

    @property
    def dropped(self) -> dict[str, int]:
        """Count of what was dropped, by reason."""
        return {**dict(self._reader.dropped), **dict(self._counted)}  # copies: another thread may count on

    def feed(self, chunk: bytes, now: float) -> list[Message]:
        """Messages that are whole with ``chunk``, which came at ``now`` (seconds of the host's clock)."""
        messages = []
        for frame in self._reader.feed(chunk):
            reason, message = self._take(frame, now)
            if message is None:
                self._counted[reason] += 1
            else:
                messages.append(message)
        return messages

    def _take(self, frame: Frame, now: float) -> tuple[str, Message | None]:
        """The message of a frame, or the reason why there is none."""
        if not self._allow(now):
            return "flood", None
        if frame.session == self._session:
            if frame.sequence <= self._sequence:
                return "replayed", None
        elif frame.session in self._retired:
            return "replayed", None
        elif frame.kind != Kind.HELLO:
            return "session", None
        try:
            message = self._decoded(frame, now)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return "malformed", None
        if message is None:
            return "kind" if frame.kind not in (Kind.SHORT, Kind.LONG) else "order", None
        self._sequence = frame.sequence
        return "", message

    def _decoded(self, frame: Frame, now: float) -> Message | None:
        if frame.kind == Kind.HELLO:
            hello = _HELLO.decode(frame.payload)
            hello.kernel = printable(hello.kernel)
            self._greeted(hello, frame.session)
            return hello
        if frame.kind in (Kind.SHORT, Kind.LONG):
            return self._window(Kind(frame.kind), Window.unpack(frame.payload), now)
        if frame.kind == Kind.PROCESSES:
            busiest = _BUSIEST.decode(frame.payload)
            return Busiest(self._vm_id, now, _plain(busiest.processes), _plain(busiest.groups))
        return _REPLY.decode(frame.payload) if frame.kind == Kind.REPLY else None

    def _greeted(self, hello: Hello, session: int) -> None:
        """Learn what the numbers of windows are; a new session begins anew."""
        if session != self._session:
            if self._session is not None:
                self._retired.append(self._session)
            self._session, self._sequence, self.lost = session, 0, 0
            self._ends_us = {Kind.SHORT: 0, Kind.LONG: 0}
            self._offset = math.inf
        self._places = {Kind.SHORT: _places(hello.short, SHORT_FIELDS), Kind.LONG: _places(hello.long, LONG_FIELDS)}
        self._operations = [NUMBER.get(name, -1) for name in hello.operations]

    def _window(self, kind: Kind, window: Window, now: float) -> GuestWindow | None:
        """A window in our terms; None if it is not later than the last of its kind."""
        if not SHORTEST_WINDOW_US <= window.length_us <= LONGEST_WINDOW_US:
            raise ValueError("a window of no likely length")
        if window.end_us <= self._ends_us[kind]:
            return None
        self._ends_us[kind] = window.end_us
        self.lost = window.lost
        theirs, ours = self._places[kind]
        told = np.array(window.values, dtype=np.float64)
        if len(theirs) and int(theirs.max()) >= len(told):
            raise ValueError("fewer numbers than names")
        values: FloatArray = np.full(len(SHORT_FIELDS if kind == Kind.SHORT else LONG_FIELDS), np.nan)
        told[~((told >= 0) & (told <= LARGEST))] = np.nan
        values[ours] = told[theirs]
        known = len(self._operations)
        operations = tuple(
            (self._operations[number], size)
            for number, size in window.operations[:MAX_OPERATIONS]
            if number < known and self._operations[number] >= 0
        )
        at = self._host_time(window.end_us / 1e6, now)
        return GuestWindow(self._vm_id, at, window.length_us / 1e6, kind == Kind.LONG, values, operations)

    def _host_time(self, guest_seconds: float, now: float) -> float:
        """Instant of our clock: by the fastest message so far, for what was slow was late, not early."""
        self._offset = min(self._offset + NEVER_BACK * max(0.0, now - self._offset_at), now - guest_seconds)
        self._offset_at = now
        return guest_seconds + self._offset

    def _allow(self, now: float) -> bool:
        """Whether one message more is within what a guest may say."""
        since = max(0.0, now - self._allowed_at)
        self._allowed = min(MESSAGES_AT_ONCE, self._allowed + since * MESSAGES_PER_S)
        self._allowed_at = now
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        return True


def _places(told: tuple[str, ...], known: tuple[str, ...]) -> tuple[IntArray, IntArray]:
    """Positions of the names that both sides know, in theirs and in ours; a name told twice counts once."""
    ours = {name: place for place, name in enumerate(known)}
    pairs = {name: place for place, name in enumerate(told) if name in ours}
    theirs = np.fromiter(pairs.values(), dtype=np.int64, count=len(pairs))
    return theirs, np.array([ours[name] for name in pairs], dtype=np.int64)


def _plain(rows: tuple[Row, ...]) -> tuple[dict[str, Any], ...]:
    return tuple({**msgspec.structs.asdict(row), "name": printable(row.name)} for row in rows)


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def result_of(reply: Reply) -> Any:
    """The result of a reply as plain values: an error (ValueError) if it is nested deeper than Python can take."""
    try:
        return msgspec.json.decode(reply.result)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
