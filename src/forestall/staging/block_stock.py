"""Bringing blocks into the page cache, and what becomes of them: hit, late, wasted; what cannot be now has to wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from forestall.model.errors import HypervisorError
from forestall.model.samples import BoolArray, IntArray
from forestall.ports.blocks import FileCache
from forestall.staging.block_area import Block, BlockArea, Gone, Stay
from forestall.staging.block_group import BlockGroup
from forestall.staging.ledger import Group
from forestall.staging.waiting import Waiting

QUICK_SECONDS, SLOW_SECONDS = 0.3, 1.0
FIRST_WINDOW, LEAST_WINDOW, LESS = 64, 16, 0.7
"""The disks are asked for one block more at a time for each that comes quickly, and for this share of it when one comes
slowly: what a VM itself asks for has to wait behind all of that."""
LOST_SECONDS = 10.0
"""What is on its way for longer does not come: somebody had the host forget it as it came."""
BUSY, NO_MEMORY = "the disks are busy with what was asked for before", "the host has too little free memory"


@dataclass(frozen=True)
class BlockSettings:
    """How blocks are staged.

    Attributes
    ----------
    staged_bytes
        What was brought in and not been read yet, of all VMs together, at most.
    on_the_way_bytes
        What the disks are asked for at a time, at most.
    cache_bytes
        What the host is believed to keep in memory of each trust group's disks.
    keep_free_bytes
        Nothing is staged while the host has less free memory.
    least_precision
        Of what is staged for a trust group at least this share must be read, or less is staged, or nothing.
    core_ratio_per_ten_vms, quick_seconds, calm_seconds, tired_seconds
        As in :class:`~forestall.staging.area.ShadowSettings`.
    """

    staged_bytes: int = 256 << 20
    on_the_way_bytes: int = 16 << 20
    cache_bytes: int = 1 << 30
    keep_free_bytes: int = 1 << 30
    least_precision: float = 0.5
    core_ratio_per_ten_vms: float = 0.01
    quick_seconds: float = 0.05
    calm_seconds: float = 0.1
    tired_seconds: float = 1.0


class BlockStock:
    """What is staged for all trust groups.

    Parameters
    ----------
    cache
        The host's page cache.
    groups
        Models and accounts; the driver's.
    settings
        Bounds.
    free_bytes
        Free memory of the host.
    is_alone
        Whether a file is one VM's alone, so that it harms nobody to have the host forget blocks of it.
    """

    def __init__(
        self,
        cache: FileCache,
        groups: Mapping[Group, BlockGroup],
        settings: BlockSettings,
        free_bytes: Callable[[], int],
        is_alone: Callable[[str], bool],
    ) -> None:
        self._cache, self._groups, self._settings = cache, groups, settings
        self._free_bytes, self._is_alone = free_bytes, is_alone
        self._area = BlockArea(self.most_blocks)
        self._most_travelling = max(settings.on_the_way_bytes // cache.block_bytes, 1)
        self._window = float(min(FIRST_WINDOW, self._most_travelling))
        self._waiting: Waiting[Block] = Waiting((BUSY, NO_MEMORY), self._give_up)
        self._until: dict[Block, float] = {}
        self._took: list[float] = []
        self._free: int | None = None
        self._unseen_until = 0.0

    @property
    def dropped(self) -> Counter[str]:
        """How many blocks were not staged in the end, by reason."""
        return self._waiting.dropped

    @property
    def most_blocks(self) -> int:
        """So many blocks are staged at the most."""
        return max(self._settings.staged_bytes // self._cache.block_bytes, 1)

    def waiting(self) -> int:
        """How many blocks wait."""
        return len(self._waiting)

    def staged_bytes(self, group: Group | None = None) -> int:
        """What is staged, for a trust group or for all."""
        return self._area.staged(group) * self._cache.block_bytes

    def waits(self, block: Block) -> bool:
        """Whether a block is to be brought in, and was not yet."""
        return block in self._until

    def ahead(self) -> Counter[tuple[Group, str]]:
        """How many blocks VMs are expected to read still: by trust group and file, really staged or to be."""
        blocks = {*self._area.there(), *self._area.on_the_way(), *self._until}
        return Counter((block.group, block.path) for block in blocks)

    def comes(self, blocks: Sequence[Block]) -> bool:
        """Whether some of these are still to be brought in, or on their way."""
        on_the_way = set(self._area.on_the_way())
        return any(block in self._until or block in on_the_way for block in blocks)

    def there(self, blocks: Sequence[Block]) -> int:
        """How many of these are in memory."""
        return sum(self._present(blocks))

    def want(self, blocks: Sequence[Block], now: float, until: float, *, real: bool) -> None:
        """Stage blocks that are not there, until then; what cannot be now has to wait. Not real: only follow them."""
        if real:
            for block in blocks:
                self._area.follow_no_more(block)
        missing = self._missing(block for block in blocks if block not in self._until)
        if not real:
            for block in missing:
                self._groups[block.group].account.staged += 1
                self._let_go(self._area.stage(block, Stay(until, real=False, arrived=True)))
            return
        brought, why = self._bring(missing, now, until)
        for block in missing[brought:]:
            self._until[block] = until
            self._waiting.add(block, until, why)

    def read(self, block: Block, now: float) -> Stay | None:
        """A VM has used a block: how it stood here, which is over with that."""
        stay = self._area.read(block)
        if stay is not None and not stay.arrived:
            self._took.append(self._unseen_until - stay.asked_at)  # if that was just now, it was asked for too late
        return stay

    def look_over(self, now: float) -> None:
        """Let go of what nobody has read in its time, or the host has let go itself."""
        there = self._area.there()
        lost = {block for block, is_there in zip(there, self._present(there), strict=True) if not is_there}

        def is_over(block: Block, stay: Stay) -> bool:
            late = not stay.arrived and now - stay.asked_at > LOST_SECONDS
            return block in lost or late or stay.until <= now

        self._let_go(self._area.take_out(is_over))

    def settle(self, now: float) -> None:
        """See what has arrived, and try again what waits."""
        self._free = None
        on_the_way = self._area.on_the_way()
        for block, there in zip(on_the_way, self._present(on_the_way, gone=True), strict=True):
            if there:
                # It was not there the last time that was looked, however long ago that is.
                self._took.append(self._unseen_until - self._area.arrive(block).asked_at)
        self._unseen_until = now
        self._adapt(self._took)
        self._took.clear()
        self._waiting.settle(now, lambda block: self._try_again(block, now))

    def _adapt(self, took: Sequence[float]) -> None:
        """Ask the disks for more at a time or less, by how long blocks took that came, or were read on their way."""
        if any(seconds > SLOW_SECONDS for seconds in took):
            self._window = max(LESS * self._window, LEAST_WINDOW)
        else:
            self._window += sum(seconds <= QUICK_SECONDS for seconds in took)
        self._window = min(self._window, self._most_travelling)

    def compare(self, paths: Collection[str]) -> None:
        """Have models forget what they believe to be in memory, of these files, and is not: others needed the room."""
        coming = self._until.keys() | set(self._area.on_the_way())
        for group, known in self._groups.items():
            for path, number in known.believed():
                if path in paths:
                    blocks = [Block(group, path, n) for n in number.tolist()]
                    present = self._present(blocks)
                    gone = (b for b, is_there in zip(blocks, present, strict=True) if not is_there and b not in coming)
                    known.lose(path, [block.number for block in gone])

    def leave(self, group: Group, paths: Collection[str] | None = None) -> None:
        """Let go of what is staged for a trust group (of these files; None: of all), whatever may still come of it."""

        def is_left(block: Block) -> bool:
            return block.group == group and (paths is None or block.path in paths)

        self._area.take_out(lambda block, _: is_left(block))
        self._waiting.forget(is_left)
        self._until = {block: until for block, until in self._until.items() if not is_left(block)}

    def _missing(self, blocks: Iterable[Block]) -> list[Block]:
        """Those that are neither staged nor in memory, nor behind the end of their file."""
        new = [block for block in dict.fromkeys(blocks) if block not in self._area]
        present = self._present(new, gone=True)
        return [b for b, there in zip(new, present, strict=True) if not there and 0 <= b.number < self.size(b.path)]

    def size(self, path: str) -> int:
        """Blocks of a file; 0 where it cannot be read."""
        try:
            return self._cache.blocks(path)
        except HypervisorError:
            return 0

    def _present(self, blocks: Sequence[Block], *, gone: bool = False) -> list[bool]:
        """Which are in memory; of a file that is not there any more: ``gone``."""
        found = dict.fromkeys(blocks, gone)
        by_path: dict[str, list[Block]] = {}
        for block in blocks:
            by_path.setdefault(block.path, []).append(block)
        for path, own in by_path.items():
            number: IntArray = np.array([block.number for block in own], np.int64)
            with suppress(HypervisorError):
                there: BoolArray = self._cache.present(path, number)
                found.update(zip(own, there.tolist(), strict=True))
        return [found[block] for block in blocks]

    def _bring(self, blocks: Sequence[Block], now: float, until: float) -> tuple[int, str]:
        """Have the host read blocks, neighbours at once: how many of them, and why not the others, for now."""
        if not blocks:
            return 0, ""
        self._free = self._free_bytes() if self._free is None else self._free
        if self._free < self._settings.keep_free_bytes:
            return 0, NO_MEMORY
        now_on, done = blocks[: max(int(self._window) - self._area.travelling(), 0)], 0
        while done < len(now_on):
            count = _neighbours(now_on[done:])
            block = now_on[done]
            with suppress(HypervisorError):  # it was there a moment ago; nothing will come
                self._cache.bring(block.path, block.number, count)
            done += count
        for block in now_on:
            self._groups[block.group].account.staged += 1
            self._let_go(self._area.stage(block, Stay(until, real=True, arrived=False, asked_at=now)))
        return len(now_on), BUSY

    def _try_again(self, block: Block, now: float) -> str | None:
        brought, why = 1, ""
        if block.group in self._groups and self._missing([block]):
            brought, why = self._bring([block], now, self._until[block])
        if brought:
            self._until.pop(block, None)
        return None if brought else why

    def _give_up(self, block: Block) -> None:
        """It was not brought in, whatever the model believes."""
        self._until.pop(block, None)
        if (known := self._groups.get(block.group)) is not None:
            known.lose(block.path, [block.number])

    def _let_go(self, gone: Gone) -> None:
        """These were of no use."""
        for block, stay in gone:
            if (known := self._groups.get(block.group)) is not None:
                known.account.wasted += 1
                known.lose(block.path, [block.number])
            if stay.real and self._is_alone(block.path):
                with suppress(HypervisorError):
                    self._cache.drop(block.path, block.number, 1)


def _neighbours(blocks: Sequence[Block]) -> int:
    """How many of these, from the first on, lie one after the other in one file."""
    path, number = blocks[0].path, blocks[0].number
    count = 1
    while count < len(blocks) and blocks[count][1:] == (path, number + count):
        count += 1
    return count
