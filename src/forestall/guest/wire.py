"""Frames between a guest and its host: framed, checksummed, versioned, numbered; the same both ways.

A frame is a header and a payload. The header is little-endian: ``FG``, version (1 byte), kind (1), session (4),
sequence (4), length of the payload (4), CRC-32 (4) of all that precedes it and of the payload. A session is a random
number, new with each start of an agent; within it the sequence rises by at least one with each frame, so that a frame
that is repeated, or late, is known for what it is.

What is rare is JSON, what comes ten times a second is packed numbers (:class:`Window`). Whatever arrives is taken for
hostile: a frame is at most :data:`MAX_PAYLOAD_BYTES`, what is not one is skipped and counted by its reason.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

MAGIC, VERSION = b"FG", 1
MAX_PAYLOAD_BYTES = 32 * 1024
MAX_FIELDS, MAX_OPERATIONS = 128, 64
MAX_DROPS_AT_ONCE = 64
"""With so much nonsense in one piece there is nothing to be found in the rest: looking for it would cost too much."""
_HEADER, _CRC = struct.Struct("<2sBBIII"), struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
_WINDOW = struct.Struct("<QIIHH")


class Kind(IntEnum):
    """What a frame holds. From the guest: up to 15; from the host: from 16 on."""

    HELLO = 1
    """JSON: who speaks, and the names of the numbers in a window."""
    SHORT = 2
    """A :class:`Window` of 100 ms (longer where the guest saves effort)."""
    LONG = 3
    """A :class:`Window` of 1 s, with more fields."""
    PROCESSES = 4
    """JSON: the busiest processes and control groups."""
    REPLY = 5
    """JSON: what came of a request."""
    REQUEST = 16
    """JSON: something to be done or said; has an ``id`` that the reply repeats."""
    HINT = 17
    """JSON: what the host expects; nobody replies."""


class Frame(NamedTuple):
    """A frame that arrived whole."""

    kind: int
    session: int
    sequence: int
    payload: bytes


class Window(NamedTuple):
    """What happened in a span of time.

    Attributes
    ----------
    end_us
        Its end, microseconds of the guest's monotonic clock.
    length_us
        How long it was.
    lost
        Frames that the guest could not send since it started, because nobody took them.
    values
        A number for each field, in the order that the hello told; NaN where the guest cannot tell.
    operations
        (operation, class) pairs: what was done, and how much of it; see ``operations``.
    """

    end_us: int
    length_us: int
    lost: int
    values: Sequence[float]
    operations: tuple[tuple[int, int], ...]

    def pack(self) -> bytes:
        """As a payload."""
        count, operations = len(self.values), self.operations
        head = _WINDOW.pack(self.end_us, self.length_us, self.lost, count, len(operations))
        return head + struct.pack(f"<{count}f", *self.values) + bytes([n for pair in operations for n in pair])

    @classmethod
    def unpack(cls, payload: bytes) -> Window:
        """From a payload; it is an error (ValueError) if that is none."""
        try:
            end_us, length_us, lost, fields, operations = _WINDOW.unpack_from(payload)
            if fields > MAX_FIELDS or operations > MAX_OPERATIONS:
                raise ValueError("too many fields")
            numbers = struct.unpack(f"<{fields}f{2 * operations}B", payload[_WINDOW.size :])
        except struct.error as error:
            raise ValueError(str(error)) from None
        flat = numbers[fields:]
        return cls(end_us, length_us, lost, numbers[:fields], tuple(zip(flat[::2], flat[1::2])))


def encode(kind: int, session: int, sequence: int, payload: bytes) -> bytes:
    """Bytes of a frame; a payload that is too long is an error (ValueError)."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload of {len(payload)} bytes is longer than {MAX_PAYLOAD_BYTES}")
    head = _HEADER.pack(MAGIC, VERSION, kind, session, sequence & 0xFFFFFFFF, len(payload))
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def as_json(message: dict[str, Any]) -> bytes:
    """A message as a payload."""
    return json.dumps(message, separators=(",", ":")).encode()


class FrameReader:
    """Cuts a stream of bytes into frames, and finds its way again after what is none.

    Attributes
    ----------
    dropped
        Count of what was dropped, by reason: ``bytes`` that belong to no frame (counted once for each stretch),
        ``version``, ``oversized``, ``checksum``.
    """

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._buffer = bytearray()
        self._lost = False

    def feed(self, chunk: bytes) -> list[Frame]:
        """Frames that are whole with ``chunk``. Never keeps more than a frame's length of what is not yet whole."""
        self._buffer += chunk
        frames: list[Frame] = []
        start = drops = 0
        while drops < MAX_DROPS_AT_ONCE:
            start = self._next_magic(start)
            if len(self._buffer) - start < HEADER_BYTES:
                break
            _, version, kind, session, sequence, length = _HEADER.unpack_from(self._buffer, start)
            reason = "version" if version != VERSION else "oversized" if length > MAX_PAYLOAD_BYTES else ""
            end = start + HEADER_BYTES + length
            if not reason and len(self._buffer) < end:
                break
            if not reason and not self._sound(start, end):
                reason = "checksum"
            if reason:
                self.dropped[reason] += 1
                drops += 1
                self._lost = True  # what follows until the next frame is of the same stretch
                start += len(MAGIC)
                continue
            self._lost = False
            frames.append(Frame(kind, session, sequence, bytes(self._buffer[start + HEADER_BYTES : end])))
            start = end
        else:
            start = len(self._buffer)
        del self._buffer[:start]
        return frames

    def clear(self) -> None:
        """Forget what is not yet whole: the connection is a new one."""
        self._buffer.clear()
        self._lost = False

    def _next_magic(self, start: int) -> int:
        """Where the next frame may begin."""
        found = self._buffer.find(MAGIC, start)
        if found < 0:
            found = len(self._buffer) - (1 if self._buffer.endswith(MAGIC[:1]) and len(self._buffer) > start else 0)
        if found > start and not self._lost:
            self.dropped["bytes"] += 1
            self._lost = True
        return found

    def _sound(self, start: int, end: int) -> bool:
        at = start + _HEADER.size
        with memoryview(self._buffer) as view:
            crc = zlib.crc32(view[start + HEADER_BYTES : end], zlib.crc32(view[start:at]))
        return bool(crc == _CRC.unpack_from(self._buffer, at)[0])
