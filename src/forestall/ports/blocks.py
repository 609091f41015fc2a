"""Blocks of files that VMs have as their disks: what a VM asks of them, and what of them the host has in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from forestall.model.samples import BoolArray, FloatArray, IntArray


class DiskFile(NamedTuple):
    """A file (or block device) of the host that a disk of a VM lies in.

    Attributes
    ----------
    path
        Where.
    own
        Whether it is this VM's alone: not one that other disks are laid over.
    """

    path: str
    own: bool


class Requests(NamedTuple):
    """What a VM asked of its disks, in order; arrays (request,).

    Attributes
    ----------
    at
        Instants, seconds UTC.
    file
        Index into the files of the watch.
    offset_bytes, size_bytes
        Where in the file, and how much.
    write
        Whether it was written, else read.
    """

    at: FloatArray
    file: NDArray[np.int32]
    offset_bytes: IntArray
    size_bytes: IntArray
    write: BoolArray

    @classmethod
    def none(cls) -> Requests:
        """Nothing was asked for."""
        no_numbers = np.zeros(0, np.int64)
        return cls(np.zeros(0), np.zeros(0, np.int32), no_numbers, no_numbers, np.zeros(0, np.bool_))

    @classmethod
    def together(cls, parts: Sequence[Requests]) -> Requests:
        """Several, one after the other."""
        columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return cls(*columns)

    def chosen(self, index: IntArray | slice) -> Requests:
        """Some of them, in that order."""
        columns: list[Any] = [column[index] for column in self]
        return Requests(*columns)


class BlockWatch(Protocol):
    """Sees what one VM asks of its disks."""

    @property
    def files(self) -> Sequence[DiskFile]:
        """Files that its disks lie in; more may come, none changes its place."""
        ...

    def take(self) -> Requests:
        """What it asked for since the last call, as far as it is known where that lies.

        Raises
        ------
        HypervisorError
            The VM is gone, or can no longer be watched.
        """
        ...

    def rest(self) -> None:
        """Watch no more for a while, so that it costs nothing.

        Raises
        ------
        HypervisorError
            The VM is there, and could not be told.
        """
        ...

    def resume(self) -> None:
        """Watch again.

        Raises
        ------
        HypervisorError
            The VM is gone, or cannot be watched.
        """
        ...

    def close(self) -> None:
        """Watch no more. Harmless for a VM that is gone.

        Raises
        ------
        HypervisorError
            The VM is there, and could not be told.
        """
        ...


class FileCache(Protocol):
    """What the host has of files in memory: its page cache. Blocks are counted from 0, all of the same size."""

    @property
    def block_bytes(self) -> int:
        """Size of a block."""
        ...

    def blocks(self, path: str) -> int:
        """How many blocks a file has; the last may be a part of one.

        Raises
        ------
        HypervisorError
            There is no such file, or it cannot be read.
        """
        ...

    def present(self, path: str, number: IntArray) -> BoolArray:
        """Which blocks (block,) are in memory and can be read without waiting; array (block,)."""
        ...

    def bring(self, path: str, first: int, blocks: int) -> None:
        """Have the host read a range of blocks into memory, without waiting until it has."""
        ...

    def drop(self, path: str, first: int, blocks: int) -> None:
        """Let the host forget a range of blocks; what is not on the disk yet stays."""
        ...

    def keep(self, paths: Collection[str]) -> None:
        """Let go of all other files."""
        ...

    def close(self) -> None:
        """Let go of all files."""
        ...
