"""A memory trace through Forestall and its peers, and what each is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forestall.model.errors import WrongUse
from forestall.model.samples import BoolArray, FloatArray
from forestall.replay.memory.area import Area, Move
from forestall.replay.memory.peers import PEERS
from forestall.replay.memory.result import MemoryPoint
from forestall.replay.memory.trace import MemoryTrace
from forestall.replay.policy_names import FORESTALL, asked_policies
from forestall.replay.result import Variant
from forestall.replay.scores.memory import score_memory
from forestall.staging.memory import MemoryStaging

ORACLE = "oracle"
POLICIES = (FORESTALL, *PEERS)
PAGE_BYTES = 4096
STRETCHES = 120
TICK = 1024
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class MemoryReplaySettings:
    """What is replayed, and how.

    Attributes
    ----------
    policy
        forestall, a peer, several separated by commas, or all.
    staging_bytes
        Size of the staging area of all VMs.
    history_share
        So much of the trace is not scored.
    seed
        Written into the report; nothing is random.
    """

    policy: str = FORESTALL
    staging_bytes: int = 256 * PAGE_BYTES
    history_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.staging_bytes < PAGE_BYTES:
            raise WrongUse(f"a staging area of {self.staging_bytes} bytes: must hold a page, {PAGE_BYTES} bytes")
        if not 0 <= self.history_share < 1:
            raise WrongUse(f"a history of {self.history_share:g} of the trace: must be from 0 to below 1")

    @property
    def names(self) -> tuple[str, ...]:
        """Policies that are replayed; the first one's moves are written.

        Raises
        ------
        WrongUse
            One of them is not known.
        """
        return asked_policies(self.policy, POLICIES)

    @property
    def pages(self) -> int:
        """Pages that may be staged at a time."""
        return self.staging_bytes // PAGE_BYTES


@dataclass(frozen=True)
class MemoryRun:
    """What one policy did: whether each page (touch,) was staged when it was touched, and its moves."""

    hit: BoolArray
    moves: list[Move]


@dataclass(frozen=True)
class MemoryOutcome:
    """What came of a replay: moves of the first policy, scores of all, and what was served over the trace."""

    moves: list[Move]
    points: tuple[MemoryPoint, ...]
    first: int
    in_time: dict[str, FloatArray]


def replay_memory(trace: MemoryTrace, settings: MemoryReplaySettings, tick: Tick) -> MemoryOutcome:
    """Replay the staging of memory, and every peer that is asked for.

    Raises
    ------
    WrongUse
        A policy is not known.
    """
    first = int(settings.history_share * len(trace))
    points, in_time, moves = [], dict[str, FloatArray](), list[Move]()
    for name in settings.names:
        run = _forestall if name == FORESTALL else _peer(name)
        found = run(trace, settings.pages, lambda done, name=name: tick(name, done, len(trace)))  # type: ignore[misc]
        variant = {FORESTALL: Variant.FORESTALL, ORACLE: Variant.ORACLE}.get(name, Variant.SHIPPED)
        points.append(MemoryPoint(name, variant, score_memory(found.hit, found.moves, first)))
        if len(points) == 1:
            moves = found.moves
        if len(points) == 1 or name in (FORESTALL, ORACLE, "next_8"):
            in_time[name] = _in_stretches(found.hit[first:])
    return MemoryOutcome(moves, tuple(points), first, in_time)


def _in_stretches(hit: BoolArray) -> FloatArray:
    """Share of touches that were served in stretches; array (stretch,)."""
    if not len(hit):
        return np.zeros(0)
    return np.array([part.mean() for part in np.array_split(hit, min(STRETCHES, len(hit)))])


def _forestall(trace: MemoryTrace, pages: int, tick: Callable[[int], None]) -> MemoryRun:
    """Forestall keeps its own staging area; the one here only checks and writes down."""
    staging, area = MemoryStaging(pages), Area(pages)
    hit = np.zeros(len(trace), np.bool_)
    for at, (vm, group, page) in enumerate(_touches(trace)):
        moves = staging.touch(vm, group, page)
        hit[at] = area.touch(vm, page)
        for other_vm, other in moves.let_go:
            area.let_go(at, other_vm, [other])
        area.stage(at, vm, moves.stage)
        if at % TICK == TICK - 1:
            tick(TICK)
    return MemoryRun(hit, area.moves)


def _peer(name: str) -> Callable[[MemoryTrace, int, Callable[[int], None]], MemoryRun]:
    def run(trace: MemoryTrace, pages: int, tick: Callable[[int], None]) -> MemoryRun:
        peer, area = PEERS[name](trace), Area(pages)
        hit = np.zeros(len(trace), np.bool_)
        for at, (vm, group, page) in enumerate(_touches(trace)):
            hit[at] = area.touch(vm, page)
            area.stage(at, vm, peer.touch(at, vm, group, page))
            if at % TICK == TICK - 1:
                tick(TICK)
        return MemoryRun(hit, area.moves)

    return run


def _touches(trace: MemoryTrace) -> zip[tuple[int, int, int]]:
    return zip(trace.vm.tolist(), trace.group.tolist(), trace.page.tolist(), strict=True)
