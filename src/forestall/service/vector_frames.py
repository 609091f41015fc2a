"""Frames of vectors between hosts and the centre: delta-encoded, msgpack, zstd; each can be read alone.

Vectors of one VM after the other, in order of time. Of each feature the bits of its float32 values, taken as whole
numbers, are sent as differences from row to row, the first bytes of all of them, then the second, and so on: values
that hardly move leave zeros, which zstd makes next to nothing of. Nothing is rounded.

What arrives is taken for hostile: every size is bounded before anything of that size is made.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
import zstandard

from forestall.model.errors import BadInput, StoreError
from forestall.model.samples import Float32Array, IntArray
from forestall.ports.vectors import VectorBatch, VectorKind

MAGIC = b"FV\x01"
MAX_BODY_BYTES, MAX_PLAIN_BYTES = 4 * 1024 * 1024, 32 * 1024 * 1024
MAX_ROWS, MAX_FEATURES = 20_000, 256
LEVEL = 6

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
VmName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
SpoolName = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class Packed(msgspec.Struct, array_like=True):
    """A frame as it is packed: what is in arrays is little-endian, in planes of bytes."""

    spool: SpoolName
    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    kind: str
    names: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=MAX_FEATURES)]
    vm_ids: Annotated[tuple[VmName, ...], msgspec.Meta(max_length=MAX_ROWS)]
    vm: bytes
    at: bytes
    values: bytes


class Frame(msgspec.Struct, frozen=True):
    """A frame: where it comes from (the host is known otherwise), and what it holds."""

    spool: str
    sequence: int
    batch: VectorBatch


_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Packed)


def encode(spool: str, sequence: int, batch: VectorBatch) -> bytes:
    """A frame as bytes.

    Raises
    ------
    StoreError
        The batch does not fit itself, or is larger than a frame may be.
    """
    batch.check()
    if len(batch) > MAX_ROWS or not 1 <= len(batch.names) <= MAX_FEATURES:
        raise StoreError(f"{len(batch)} vectors of {len(batch.names)} features are too much for a frame")
    vm_ids, vm = np.unique(np.array(batch.vm_ids, dtype=object), return_inverse=True)
    order = np.lexsort((batch.at, vm))
    bits = np.ascontiguousarray(batch.values[order].T, dtype="<f4").view("<u4")
    packed = Packed(
        spool,
        sequence,
        batch.kind.value,
        batch.names,
        tuple(vm_ids.tolist()),
        _planes(_differences(vm[order].astype("<u4"))),
        _planes(_differences(batch.at[order].astype("<u8"))),
        _planes(_differences(bits)),
    )
    return MAGIC + zstandard.ZstdCompressor(level=LEVEL).compress(_ENCODER.encode(packed))


def decode(body: bytes) -> Frame:
    """A frame from bytes.

    Raises
    ------
    BadInput
        The bytes are no frame, or one that is larger than it may be; the text says which.
    """
    if len(body) > MAX_BODY_BYTES:
        raise BadInput(f"a frame of {len(body)} bytes is larger than {MAX_BODY_BYTES}")
    if not body.startswith(MAGIC):
        raise BadInput("not a frame of vectors, or one of another version")
    packed = _unpacked(_decompressed(body[len(MAGIC) :]))
    rows, features = len(packed.vm) // 4, len(packed.names)
    sizes = (len(packed.vm), len(packed.at), len(packed.values))
    if rows > MAX_ROWS or sizes != (4 * rows, 8 * rows, 4 * rows * features):
        raise BadInput("a frame whose parts do not fit together")
    vm = _summed(_unplaned(packed.vm, "<u4")).astype(np.int64)
    if rows and int(vm.max()) >= len(packed.vm_ids):
        raise BadInput("a frame that names fewer VMs than it has")
    bits = _summed(_unplaned(packed.values, "<u4").reshape(features, rows))
    values: Float32Array = np.ascontiguousarray(bits.view("<f4").T)
    values = np.where(np.isinf(values), np.float32(np.nan), values)
    at: IntArray = _summed(_unplaned(packed.at, "<u8")).view("<i8").astype(np.int64)
    batch = VectorBatch(VectorKind(packed.kind), packed.names, tuple(packed.vm_ids[i] for i in vm.tolist()), at, values)
    try:
        batch.check()
    except StoreError as error:
        raise BadInput(str(error)) from error
    return Frame(packed.spool, packed.sequence, batch)


def _decompressed(body: bytes) -> bytes:
    """At most :data:`MAX_PLAIN_BYTES`, whatever the body says of itself, and never more memory than that."""
    try:
        said = zstandard.get_frame_parameters(body)
        if said.content_size > MAX_PLAIN_BYTES or said.window_size > MAX_PLAIN_BYTES:
            raise BadInput(f"a frame that unpacks to more than {MAX_PLAIN_BYTES} bytes")
        with zstandard.ZstdDecompressor(max_window_size=MAX_PLAIN_BYTES).stream_reader(body) as reader:
            plain = reader.read(MAX_PLAIN_BYTES + 1)
    except zstandard.ZstdError as error:
        raise BadInput(f"not compressed by zstd: {error}") from error
    if len(plain) > MAX_PLAIN_BYTES:
        raise BadInput(f"a frame that unpacks to more than {MAX_PLAIN_BYTES} bytes")
    return bytes(plain)


def _unpacked(plain: bytes) -> Packed:
    try:
        packed = _DECODER.decode(plain)
        VectorKind(packed.kind)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise BadInput(f"a frame that is malformed: {str(error)[:120]}") from error
    if len(set(packed.names)) != len(packed.names):
        raise BadInput("a frame that names a feature twice")
    return packed


def _differences(numbers: np.ndarray) -> np.ndarray:
    """Along the last axis, the first as it is; unsigned, so that it wraps around."""
    result = numbers.copy()
    result[..., 1:] -= numbers[..., :-1]
    return result


def _summed(differences: np.ndarray) -> np.ndarray:
    return np.cumsum(differences, axis=-1, dtype=differences.dtype)


def _planes(numbers: np.ndarray) -> bytes:
    """First bytes of all numbers, then the second ones, ..."""
    return numbers.reshape(-1, 1).view(np.uint8).T.tobytes()


def _unplaned(planes: bytes, kind: str) -> np.ndarray:
    size = np.dtype(kind).itemsize
    return np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(size, -1).T).view(kind).reshape(-1)
