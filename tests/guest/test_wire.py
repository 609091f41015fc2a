"""Frames: what is sent arrives, and what arrives is a frame or is dropped."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.guest import wire
from forestall.guest.wire import FrameReader, Kind, Window, encode


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(1, 50), max_size=40),
)
def test_frames_arrive_however_they_are_cut(sent: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode(kind, session, number, payload) for number, (kind, session, payload) in enumerate(sent))
    reader, frames, start = FrameReader(), [], 0
    for length in [*cuts, len(stream)]:
        frames += reader.feed(stream[start : start + length])
        start += length
    assert [(f.kind, f.session, f.payload) for f in frames] == sent
    assert [f.sequence for f in frames] == list(range(len(sent)))
    assert not reader.dropped


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_a_frame_is_found_behind_anything_that_is_none(before: bytes, payload: bytes) -> None:
    """What is before may look like the beginning of a frame, and wait for its end: so there is more behind."""
    frame = encode(Kind.SHORT, 7, 1, payload)
    reader = FrameReader()
    found = reader.feed(before + frame)
    found += reader.feed(encode(Kind.REPLY, 7, 2, bytes(wire.MAX_PAYLOAD_BYTES)) * 2)
    assert payload in [f.payload for f in found if f.kind == Kind.SHORT]


@pytest.mark.parametrize("place", range(wire.HEADER_BYTES + 5))
def test_a_changed_byte_never_passes(place: int) -> None:
    frame = bytearray(encode(Kind.HELLO, 1, 1, b"hello"))
    frame[place] ^= 0x10
    reader = FrameReader()
    reader.feed(bytes(frame))
    assert not reader.feed(bytes(2 * wire.MAX_PAYLOAD_BYTES))
    assert sum(reader.dropped.values()) >= 1


def test_what_is_dropped_is_counted_by_its_reason() -> None:
    reader = FrameReader()
    sound = encode(Kind.HELLO, 1, 1, b"")
    reader.feed(b"noise" + sound)
    assert reader.dropped == {"bytes": 1}
    reader.feed(sound[:2] + bytes([9]) + sound[3:] + sound)
    assert reader.dropped["version"] == 1
    long = bytearray(sound)
    long[12:16] = (2**31).to_bytes(4, "little")
    reader.feed(bytes(long) + sound)
    assert reader.dropped["oversized"] == 1
    broken = bytearray(encode(Kind.HELLO, 1, 1, b"abc"))
    broken[-1] ^= 1
    reader.feed(bytes(broken) + sound)
    assert reader.dropped["checksum"] == 1
    assert reader.dropped["bytes"] == 1


def test_work_and_memory_are_bounded_whatever_comes() -> None:
    """Every second byte may be the beginning of a frame that ends far away."""
    head = encode(Kind.HELLO, 1, 1, bytes(wire.MAX_PAYLOAD_BYTES))[: wire.HEADER_BYTES]
    reader = FrameReader()
    for _ in range(100):
        reader.feed(head * 500)
        assert len(reader._buffer) <= 2 * wire.MAX_PAYLOAD_BYTES
    assert reader.dropped["checksum"] <= 100 * wire.MAX_DROPS_AT_ONCE


def test_a_payload_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="longer"):
        encode(Kind.HELLO, 1, 1, bytes(wire.MAX_PAYLOAD_BYTES + 1))


@given(
    st.lists(st.floats(width=32), max_size=wire.MAX_FIELDS),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=wire.MAX_OPERATIONS),
)
def test_a_window_comes_back_as_it_was(values: list[float], operations: list[tuple[int, int]]) -> None:
    window = Window(2**50, 100_000, 3, tuple(values), tuple(operations))
    again = Window.unpack(window.pack())
    assert again[:3] == window[:3]
    assert again.operations == window.operations
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(again.values, values, strict=True))


@given(st.binary(max_size=400))
def test_a_payload_that_is_no_window_is_an_error(payload: bytes) -> None:
    try:
        window = Window.unpack(payload)
    except ValueError:
        return
    assert window.pack()[:20] == payload[:20]
