"""The result of a memory replay: the values and arrays that the report and the summary are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forestall.model.samples import FloatArray
from forestall.replay.result import Variant
from forestall.replay.scores.memory import MemoryScores


@dataclass(frozen=True)
class MemoryHeader:
    """What was replayed, by what, and what it took.

    Attributes
    ----------
    trace, digest
        Name and SHA-256 of the trace.
    vms, groups, touches
        Size of the trace.
    scored_from
        Index of the first touch that is scored; what lies before is history.
    staging_pages
        Pages that may be staged at a time.
    policy
        The policy asked for first.
    seed, version, command, wall_seconds, peak_memory_bytes, warnings
        To make it again, and what it took.
    """

    trace: str
    digest: str
    vms: int
    groups: int
    touches: int
    scored_from: int
    staging_pages: int
    policy: str
    seed: int
    version: str
    command: str
    wall_seconds: float
    peak_memory_bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MemoryPoint:
    """A policy."""

    policy: str
    variant: Variant
    scores: MemoryScores


@dataclass(frozen=True, eq=False)
class MemoryResult:
    """The result of a whole replay.

    Attributes
    ----------
    header
        What was replayed.
    points
        Scores of all policies, in the order in which they were asked for.
    in_time
        Share of touches that were served in each stretch of the scored part, of the first policy and others that are
        shown: arrays (stretch,) by name.
    """

    header: MemoryHeader
    points: tuple[MemoryPoint, ...]
    in_time: Mapping[str, FloatArray]

    @property
    def headline(self) -> MemoryPoint:
        """The first policy's point."""
        return self.points[0]
