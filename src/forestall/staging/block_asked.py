"""Blocks of disks that a VM manager has asked for: those of a program, as it read them before, or of a file.

While a request for a program is held, what its VM reads is taken down, and is the program's for the next time, for the
VMs of that trust group. A program that is in the guest's memory already reads little: such a time says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from forestall.model.errors import StoreError
from forestall.ports.access_log import BLOCK
from forestall.staging.asked import NOT_ALLOWED, Asked, AskedView
from forestall.staging.block_area import Block
from forestall.staging.block_stock import BlockStock
from forestall.staging.ledger import Group
from forestall.staging.watched import Place

AGAIN_SECONDS, CALM_SECONDS = 1.0, 10.0
MOST_BLOCKS = 1 << 14
"""Of a program, or of a file: 1 GiB in blocks of 64 KiB."""
LEAST_SHARE, MOST_UNREAD, MOST_SMALL = 0.1, 3, 8
"""A time in which less than this share was read says nothing, unless so many come in a row; after so many others
without it a block is dropped."""
WATCHED = "what the program reads is taken down, for the next time"


@dataclass(frozen=True)
class ProgramBlocks:
    """What a program reads, in that order: of each block the file, its number there, and how often in a row it did not.

    Attributes
    ----------
    paths
        Files.
    path, number, unread
        For each block: index of the file, number of the block, and times in a row in which it was not read.
    small
        Times in a row in which hardly anything was read.
    """

    paths: tuple[str, ...] = ()
    path: tuple[int, ...] = ()
    number: tuple[int, ...] = ()
    unread: tuple[int, ...] = ()
    small: int = 0

    def blocks(self) -> list[tuple[str, int]]:
        """Files and numbers."""
        return [(self.paths[k], number) for k, number in zip(self.path, self.number, strict=True)]

    def after(self, read: Sequence[tuple[str, int]]) -> ProgramBlocks:
        """With what was read this time: that first, then what is still believed in."""
        before = dict(zip(self.blocks(), self.unread, strict=True))
        if len(read) < LEAST_SHARE * len(before):
            if self.small < MOST_SMALL:
                return replace(self, small=self.small + 1)
            before = {}
        unread = dict.fromkeys(read, 0)
        unread |= {block: times + 1 for block, times in before.items() if block not in unread and times < MOST_UNREAD}
        blocks = list(unread)[:MOST_BLOCKS]
        paths = {path: k for k, path in enumerate(dict.fromkeys(path for path, _ in blocks))}
        return ProgramBlocks(
            tuple(paths),
            tuple(paths[path] for path, _ in blocks),
            tuple(number for _, number in blocks),
            tuple(unread[block] for block in blocks),
        )


class Programs(Protocol):
    """What programs of trust groups read; errors are :class:`~forestall.model.errors.StoreError`."""

    def read(self, group: Group, program: str) -> ProgramBlocks | None:
        """What is known; None if nothing is."""
        ...

    def write(self, group: Group, program: str, blocks: ProgramBlocks) -> None:
        """Keep it in place of what was known."""
        ...


def asks_for(place: Place) -> bool:
    """Whether blocks are asked for a VM: then it is watched without a rest."""
    return any(one.kind == BLOCK for one in place.asked)


@dataclass
class _Held:
    """A request that is carried out: its blocks, when they are next asked for, and what the VM has read since."""

    asked: Asked
    place: Place
    blocks: list[Block]
    again_at: float
    read: dict[tuple[str, int], None] = field(default_factory=dict)


class AskedBlocks:
    """All requests for blocks.

    Parameters
    ----------
    stock
        Brings them in.
    programs
        What programs read.
    block_bytes
        Size of a block.
    note
        Takes one line for the operator.
    """

    def __init__(self, stock: BlockStock, programs: Programs, block_bytes: int, note: Callable[[str], None]) -> None:
        self._stock, self._programs, self._block_bytes, self._note = stock, programs, block_bytes, note
        self._held: dict[str, _Held] = {}

    def turn(self, place: Place, group: Group, paths: Iterable[str], now: float) -> None:
        """Begin what is newly asked for a VM whose disks are watched and lie in these files; see to what is lacking."""
        own: set[str] | None = None
        for asked in place.asked:
            if asked.kind == BLOCK and asked.name not in self._held:
                own = set(paths) if own is None else own
                self._begin(asked, place, [Block(group, *block) for block in self._wanted(asked, group, own)], now)
        for held in self._held.values():
            if held.place.vm_id == place.vm_id:
                held.place = place
                if now >= held.again_at:
                    self._bring(held, now)

    def end(self, places: Sequence[Place]) -> None:
        """End what is no longer asked for, and learn from it."""
        asked = {one.name: place for place in places for one in place.asked}
        for name, held in list(self._held.items()):
            if name not in asked or _owner(asked[name]) != _owner(held.place):
                del self._held[name]
                self._learn(held)

    def used(self, vm_id: str, read: Sequence[tuple[str, int]]) -> None:
        """Take down what a VM has read."""
        for held in self._held.values():
            if held.place.vm_id == vm_id and len(held.read) < MOST_BLOCKS:
                held.read |= dict.fromkeys(read)

    def views(self) -> Mapping[str, AskedView]:
        """What has become of each, by name."""
        return {name: self._view(held) for name, held in self._held.items()}

    def _wanted(self, asked: Asked, group: Group, own: set[str]) -> list[tuple[str, int]]:
        if asked.place:
            first = asked.offset_bytes // self._block_bytes
            end = -(-(asked.offset_bytes + asked.size_bytes) // self._block_bytes)
            end = min(end, first + MOST_BLOCKS, self._stock.size(asked.place))
            return [(asked.place, n) for n in range(first, end)] if asked.place in own else []
        known = self._known(group, asked.program)
        return [(path, number) for path, number in known.blocks() if path in own]

    def _begin(self, asked: Asked, place: Place, blocks: list[Block], now: float) -> None:
        blocks = blocks[: self._stock.most_blocks]
        self._held[asked.name] = held = _Held(asked, place, blocks, now)
        self._bring(held, now)

    def _bring(self, held: _Held, now: float) -> None:
        """Have what is lacking brought in, and again while it is held: the host may forget it at any time."""
        pause = AGAIN_SECONDS if self._stock.there(held.blocks) < len(held.blocks) else CALM_SECONDS
        held.again_at = now + pause
        if held.place.acting:
            lacking = [block for block in held.blocks if (block.path, block.number) not in held.read]
            self._stock.want(lacking, now, now + held.asked.hold_seconds, real=True)

    def _view(self, held: _Held) -> AskedView:
        there = self._stock.there(held.blocks)
        touched = sum((block.path, block.number) in held.read for block in held.blocks)
        done, why = not self._stock.comes(held.blocks), ""
        if not held.place.acting:
            done, why = True, NOT_ALLOWED
        elif not held.blocks:
            why = f"no disk of the VM lies there in {held.asked.place}" if held.asked.place else WATCHED
        elif done and there < len(held.blocks):
            why = "the host does not keep all of it in memory"
        return AskedView(len(held.blocks), there, touched, len(held.read), done, why, self._block_bytes)

    def _learn(self, held: _Held) -> None:
        if held.asked.program and held.read:
            group = Group(held.place.group, held.place.generation)
            try:
                known = self._known(group, held.asked.program)
                self._programs.write(group, held.asked.program, known.after(list(held.read)))
            except StoreError as error:
                self._note(f"what {held.asked.program!r} reads is not known the next time: {error}")

    def _known(self, group: Group, program: str) -> ProgramBlocks:
        try:
            return self._programs.read(group, program) or ProgramBlocks()
        except StoreError as error:
            self._note(f"what {program!r} reads is learned anew: {error}")
            return ProgramBlocks()


def _owner(place: Place) -> tuple[str, str, str, str]:
    """Which run of which VM, and in which trust group."""
    return place.vm_id, place.incarnation, place.group, place.generation
