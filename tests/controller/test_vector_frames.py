"""Frames of vectors: what is sent arrives bit for bit and small, and what is none is refused with its reason."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forestall.model.errors import BadInput, StoreError
from forestall.ports.vectors import VectorBatch, VectorKind
from forestall.service import vector_frames
from forestall.service.vector_frames import MAGIC, decode, encode

SPOOL = "0123456789abcdef"


def batch(rows: int = 3, features: int = 2, at: int = 1_000, seed: int = 0) -> VectorBatch:
    values = np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)
    names = tuple(f"f{k}" for k in range(features))
    return VectorBatch(
        VectorKind.PROFILE, names, tuple(f"vm{i % 3}" for i in range(rows)), at + np.arange(rows), values
    )


def by_key(batch: VectorBatch) -> dict[tuple[str, int], bytes]:
    return {(vm, int(at)): row.tobytes() for vm, at, row in zip(batch.vm_ids, batch.at, batch.values, strict=True)}


@given(st.data())
def test_what_is_sent_arrives_bit_for_bit(data: st.DataObject) -> None:
    rows, features = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 5))
    values = data.draw(arrays(np.float32, (rows, features), elements=st.floats(width=32, allow_infinity=False)))
    instants = st.lists(st.integers(0, 2**37), min_size=rows, max_size=rows, unique=True)
    at = np.array(data.draw(instants), dtype=np.int64)
    vms = tuple(data.draw(st.lists(st.text(min_size=1, max_size=8), min_size=rows, max_size=rows)))
    sent = VectorBatch(VectorKind.SCORE, tuple(f"f{k}" for k in range(features)), vms, at, values)
    frame = decode(encode(SPOOL, 7, sent))
    assert (frame.spool, frame.sequence, frame.batch.kind, frame.batch.names) == (SPOOL, 7, sent.kind, sent.names)
    assert by_key(frame.batch) == by_key(sent)


def test_vectors_that_hardly_move_are_small() -> None:
    """Six vectors each of twenty VMs, most features still: as JSON they are ten times as large, and more."""
    generator = np.random.default_rng(1)
    base = generator.lognormal(size=(20, 1, 60))
    moved = np.where(generator.random((20, 6, 60)) < 0.2, generator.normal(0, 0.05, (20, 6, 60)), 0.0)
    values = (base * (1 + np.cumsum(moved, axis=1))).reshape(120, 60).astype(np.float32)
    vms, at = tuple(f"vm-{i // 6:04d}" for i in range(120)), np.tile(np.arange(6) * 10, 20) + 1_700_000_000
    sent = VectorBatch(VectorKind.PROFILE, tuple(f"feature_{k}" for k in range(60)), vms, at, values)
    rows = zip(vms, at.tolist(), values.tolist(), strict=True)
    as_json = json.dumps([{"vm": vm, "at": t, **dict(zip(sent.names, row, strict=True))} for vm, t, row in rows])
    assert len(encode(SPOOL, 1, sent)) < len(as_json) / 10


def test_infinite_values_are_unknown() -> None:
    sent = batch()
    sent.values[0, 0] = np.inf
    received = decode(encode(SPOOL, 1, sent)).batch
    assert np.isnan(received.values).sum() == 1


def test_what_does_not_fit_is_not_sent() -> None:
    with pytest.raises(StoreError, match="too much"):
        encode(SPOOL, 1, batch(rows=vector_frames.MAX_ROWS + 1))
    with pytest.raises(StoreError, match="instant"):
        encode(SPOOL, 1, batch(at=-5))


def frame(**changed: object) -> bytes:
    """A frame with parts changed before it is packed."""
    plain = zstandard.ZstdDecompressor().decompress(encode(SPOOL, 1, batch())[len(MAGIC) :])
    packed = msgspec.msgpack.decode(plain, type=vector_frames.Packed)
    whole = msgspec.structs.replace(packed, **changed)
    return MAGIC + zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(whole))


def compressed(plain: bytes, *, says_size: bool = True) -> bytes:
    return MAGIC + zstandard.ZstdCompressor(write_content_size=says_size).compress(plain)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not a frame"),
        (b"FV\x02" + encode(SPOOL, 1, batch())[3:], "not a frame"),
        (MAGIC + b"nonsense", "zstd"),
        (encode(SPOOL, 1, batch())[:-9], "zstd|malformed"),
        (compressed(bytes(1 << 28)), "unpacks to more"),
        (compressed(bytes(1 << 26), says_size=False), "unpacks to more"),
        (compressed(b"[" * 100), "malformed"),
        (compressed(b"\x91" * 1_000_000), "malformed"),
        (frame(kind="other"), "malformed"),
        (frame(spool="../../etc/passwd"), "malformed"),
        (frame(sequence=0), "malformed"),
        (frame(names=("a", "a")), "twice"),
        (frame(names=("a",)), "do not fit"),
        (frame(names=tuple(f"f{k}" for k in range(257))), "malformed"),
        (frame(names=("x" * 65, "b")), "malformed"),
        (frame(vm_ids=()), "names fewer VMs"),
        (frame(vm_ids=("",)), "malformed"),
        (frame(vm=b"\xff" * 12), "names fewer VMs"),
        (frame(at=b"\xff" * 24), "instant"),
        (frame(values=b""), "do not fit"),
        (bytes(vector_frames.MAX_BODY_BYTES + 1), "larger"),
    ],
)
def test_what_is_no_frame_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        decode(body)


@settings(max_examples=300)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    """Some bytes are changed: what comes out is a frame of sound shape, or a refusal."""
    body = bytearray(encode(SPOOL, 1, batch(rows=30, features=4)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        received = decode(bytes(body)).batch
    except BadInput:
        return
    received.check()
