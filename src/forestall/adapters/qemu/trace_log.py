"""What QEMU writes of its block requests: the trace events ``blk_co_preadv`` and ``blk_co_pwritev`` of its log backend.

Source: QEMU's docs/devel/tracing.rst, block/trace-events. A line is cut off where the file was full.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from forestall.adapters.linux.proc import Processes
from forestall.adapters.linux.scratch_file import scratch_file
from forestall.model.samples import BoolArray, FloatArray, IntArray

EVENTS = ("blk_co_preadv", "blk_co_pwritev")
NAME = "forestall-blocks"
MOST_BYTES = 4 << 20
"""Some 35,000 requests that nobody has read yet; further ones are lost."""
_LINE = re.compile(
    rb"(?:@(\d{1,12}\.\d+):)?blk_co_p(readv|writev) blk 0x([0-9a-f]{1,15}) bs \S+ "
    rb"offset (\d{1,18}) bytes (\d{1,18})[^\n]*\n"
)
_FILE = re.compile(rf".*/{NAME}-(\d+)-(\d+)( \(deleted\))?")
_READ_BYTES, _FREE_BYTES = 1 << 20, 1 << 18
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_LIBC = ctypes.CDLL(None, use_errno=True)


class Traced(NamedTuple):
    """Requests, in order; arrays (request,): instant (seconds UTC), back end, offset and size, whether written."""

    at: FloatArray
    backend: IntArray
    offset_bytes: IntArray
    size_bytes: IntArray
    write: BoolArray

    @classmethod
    def none(cls) -> Traced:
        """Nothing was asked for."""
        no_numbers = np.zeros(0, np.int64)
        return cls(np.zeros(0), no_numbers, no_numbers, no_numbers, np.zeros(0, np.bool_))

    @classmethod
    def together(cls, parts: Sequence[Traced]) -> Traced:
        """Several, one after the other."""
        columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return cls(*columns)

    def chosen(self, index: BoolArray | slice) -> Traced:
        """Some of them, in their order."""
        columns: list[Any] = [column[index] for column in self]
        return Traced(*columns)


def parse(lines: bytes, now: float) -> Traced:
    """Read lines; what is none of ours is passed over. ``now`` is when lines were written that do not say."""
    found = _LINE.findall(lines)
    return Traced(
        at=np.array([float(at) if at else now for at, *_ in found], np.float64),
        backend=np.array([int(backend, 16) & (2**63 - 1) for _, _, backend, _, _ in found], np.int64),
        offset_bytes=np.array([int(offset) for *_, offset, _ in found], np.int64),
        size_bytes=np.array([int(size) for *_, size in found], np.int64),
        write=np.array([kind == b"writev" for _, kind, *_ in found], np.bool_),
    )


class Tracer(NamedTuple):
    """The process that reads a trace; and whether it lives, and is not another by now."""

    pid: int
    is_alive: bool


def tracer_of(pid: int, root: Path = Path("/proc")) -> Tracer | None:
    """Who traces a QEMU, by the file of ours that it has open; None: nobody of Forestall."""
    folder = root / f"{pid}/fd"
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(folder)
    for name in names:
        with suppress(OSError):
            if found := _FILE.fullmatch(os.readlink(folder / name)):
                tracer = int(found[1])
                return Tracer(tracer, _started(tracer, root) == found[2])
    return None


def traces_on_here(root: Path = Path("/proc")) -> dict[int, list[str]]:
    """Processes that trace on for somebody who is gone, and the words of their command lines."""
    found = {}
    for folder in root.iterdir():
        if folder.name.isdigit() and (tracer := tracer_of(int(folder.name), root)) and not tracer.is_alive:
            with suppress(OSError):
                found[int(folder.name)] = (folder / "cmdline").read_text("utf-8", "replace").split("\0")
    return found


def _started(pid: int, root: Path = Path("/proc")) -> str:
    """When a process started, in ticks since the boot; empty for one that is gone."""
    return Processes(root).birth(pid).rpartition("/")[2]


class TraceLog:
    """The file that QEMU writes into, and how far it was read. QEMU never waits for who reads."""

    def __init__(self) -> None:
        self.file = scratch_file(f"{NAME}-{os.getpid()}-{_started(os.getpid())}", MOST_BYTES)
        self._read_to = self._freed_to = 0
        self._rest = b""

    def take(self) -> Traced:
        """What was written since the last call."""
        chunks = [self._rest]
        while chunk := os.pread(self.file, _READ_BYTES, self._read_to):
            chunks.append(chunk)
            self._read_to += len(chunk)
        if len(chunks) == 1:
            return Traced.none()
        lines, newline, self._rest = b"".join(chunks).rpartition(b"\n")
        self._free()
        return parse(lines + newline, time.time())

    def close(self) -> None:
        """Let go of it."""
        os.close(self.file)

    def _free(self) -> None:
        """Give back what was read, so that there is room: QEMU writes on at its own place."""
        if self._read_to - self._freed_to >= _FREE_BYTES:
            offsets = ctypes.c_longlong(self._freed_to), ctypes.c_longlong(self._read_to - self._freed_to)
            if _LIBC.fallocate(self.file, _PUNCH_HOLE | _KEEP_SIZE, *offsets) == 0:
                self._freed_to = self._read_to
