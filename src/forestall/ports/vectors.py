"""What VMs are like, as feature vectors: from where they are made to the one place where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np

from forestall.model.errors import StoreError
from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.ports.store import LATEST


class VectorKind(StrEnum):
    """What a vector says: how a VM behaved, a pattern of it that recurs, what runs in it, how unusual it is."""

    PROFILE = "profile"
    PATTERN = "pattern"
    SIGNATURE = "signature"
    SCORE = "score"


@dataclass(frozen=True)
class VectorBatch:
    """Vectors of some VMs.

    Attributes
    ----------
    kind
        What they say.
    names
        Of the features.
    vm_ids
        Of the rows; a VM may have several.
    at
        Array (row,): instants, seconds.
    values
        Array (row, feature); NaN where nothing is known.
    """

    kind: VectorKind
    names: tuple[str, ...]
    vm_ids: tuple[str, ...]
    at: IntArray
    values: Float32Array

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self.vm_ids)

    def check(self) -> None:
        """Raise :class:`StoreError` if arrays do not fit names, or an instant cannot be stored."""
        shape = (len(self.vm_ids), len(self.names))
        if self.values.shape != shape or self.at.shape != shape[:1]:
            raise StoreError(f"vectors of shape {self.values.shape} for {shape[0]} rows and {shape[1]} features")
        if len(self) and not (int(self.at.min()) >= 0 and int(self.at.max()) < LATEST):
            raise StoreError(f"an instant is outside [0, {LATEST})")

    def pieces(self, most: int) -> list[VectorBatch]:
        """The same vectors in batches of at most so many."""
        return [
            VectorBatch(
                self.kind, self.names, self.vm_ids[k : k + most], self.at[k : k + most], self.values[k : k + most]
            )
            for k in range(0, len(self), most)
        ]

    @classmethod
    def joined(cls, batches: Sequence[VectorBatch]) -> VectorBatch:
        """All vectors of batches that have kind and names in common; at least one."""
        vm_ids = tuple(vm_id for batch in batches for vm_id in batch.vm_ids)
        at, values = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("at", "values"))
        return cls(batches[0].kind, batches[0].names, vm_ids, at, values)


class Origin(NamedTuple):
    """Where a frame of vectors comes from: which host, which spool of it, and its number there (from 1, rising)."""

    host: str
    spool: str
    sequence: int


class Profile(NamedTuple):
    """How a VM is at each hour of the week, Monday 0:00 UTC first.

    Attributes
    ----------
    names
        Of the features.
    mean
        Array (168, feature); NaN where nothing was seen.
    vectors
        Array (168,): how many were seen.
    """

    names: tuple[str, ...]
    mean: FloatArray
    vectors: IntArray


@dataclass(frozen=True)
class VectorRetention:
    """How long vectors are kept, and their hourly means, seconds."""

    raw_seconds: int = 14 * 86_400
    hour_seconds: int = 2 * 365 * 86_400


class VectorStore(Protocol):
    """Keeps vectors. Errors are :class:`~forestall.model.errors.StoreError`."""

    def apply(self, origin: Origin, batch: VectorBatch) -> bool:
        """Keep a frame, durably; False if it, or a later one of its spool, was kept before: then nothing is done.

        A frame of a host that makes up VMs or features without end is :class:`~forestall.model.errors.BadInput`.

        Of two vectors of the same VM, kind and instant the first is kept. A host speaks for its own VMs alone: a VM is
        known as ``HOST/NAME``, one of this host (an origin whose host is empty) by its name.
        """
        ...

    def vectors(
        self, kind: VectorKind, *, since: int, until: int, vm_ids: Sequence[str] | None = None
    ) -> list[VectorBatch]:
        """Vectors with ``since <= at < until``, by VM and time; a batch for each list of names that was used."""
        ...

    def profile(self, vm_id: str, kind: VectorKind = VectorKind.PROFILE) -> Profile:
        """How a VM is at each hour of the week, from everything that is kept; of the newest names."""
        ...

    def count(self) -> int:
        """Number of vectors that are kept."""
        ...

    def maintain(self, now: int) -> None:
        """Roll up, and drop what is past its retention."""
        ...

    def close(self) -> None:
        """Release the store."""
        ...


class Spool(Protocol):
    """Frames that wait to be sent, in order, bounded in size and age. Errors: ``StoreError``."""

    def append(self, batch: VectorBatch) -> None:
        """Let a batch wait, as a frame; durable on return. The oldest make room, and are counted."""
        ...

    def oldest(self) -> tuple[int, bytes] | None:
        """The frame to be sent next, and its number; None where none waits."""
        ...

    def done(self, sequence: int) -> None:
        """It has arrived, with all before it."""
        ...

    def set_aside(self, sequence: int) -> str:
        """It will never be taken: it waits no longer, but is kept; where, in words."""
        ...
