"""The result of an access replay: the values and arrays that the report and the summary are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forestall.model.samples import FloatArray
from forestall.replay.result import Variant
from forestall.replay.scores.access import AccessScores


@dataclass(frozen=True)
class AccessHeader:
    """What was replayed, by what, and what it took.

    Attributes
    ----------
    trace, digest
        Name and SHA-256 of the trace.
    vms, streams, accesses, items
        Size of the trace: VMs, streams (VM, program, kind of resource), accesses, different things that are used.
    scored_from
        Index of the first access that is scored; what lies before is history.
    cache_items, arrival_delay
        What the cache holds, and accesses from asking to arriving.
    threshold
        The probability from which on things are staged; None: whatever costs least.
    policy
        The policy asked for first.
    accesses_per_s, model_bytes
        Speed and size of the staging loop; NaN and 0 where it did not run.
    seed, version, command, wall_seconds, peak_memory_bytes, warnings
        To make it again, and what it took.
    """

    trace: str
    digest: str
    vms: int
    streams: int
    accesses: int
    items: int
    scored_from: int
    cache_items: int
    arrival_delay: int
    threshold: float | None
    policy: str
    accesses_per_s: float
    model_bytes: int
    seed: int
    version: str
    command: str
    wall_seconds: float
    peak_memory_bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccessPoint:
    """A policy at one setting of its knob."""

    policy: str
    variant: Variant
    knob: str
    scores: AccessScores


@dataclass(frozen=True)
class Calibration:
    """How often what was staged at a probability was used.

    Attributes
    ----------
    stated, used
        Mean probability in each bin of stated probability, and the share that was used.
    count
        Prefetches in each bin.
    """

    stated: tuple[float, ...]
    used: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class AccessResult:
    """The result of a whole replay.

    Attributes
    ----------
    header
        What was replayed.
    points
        Scores of all policies, in the order in which they were asked for.
    missed
        Share of accesses that missed in each stretch of the scored part, for the first policy, a plain cache and
        others that are shown: arrays (stretch,) by name.
    calibration
        Of what Forestall staged; None where it did not run, or staged nothing.
    """

    header: AccessHeader
    points: tuple[AccessPoint, ...]
    missed: Mapping[str, FloatArray]
    calibration: Calibration | None

    @property
    def headline(self) -> AccessPoint:
        """The first policy's point."""
        return self.points[0]
