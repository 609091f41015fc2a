"""The result of a burst replay: the values and arrays that the report and the summary are made from.

Shares are 0 to 1, seconds count from the start of the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.model.samples import FloatArray
from forestall.replay.result import Variant
from forestall.replay.scores.lending import LendingScores


@dataclass(frozen=True)
class BurstHeader:
    """What was replayed, by what, and what it took.

    Attributes
    ----------
    trace, digest
        Name and SHA-256 of the trace.
    vms, windows, trace_window_us
        Size of the trace: VMs, windows, length of one.
    window_us
        Length of a decision window.
    start_us
        First instant of the trace.
    scored_from_s, end_s
        What is scored; what lies before is history.
    cores, pooled
        What the host has, and whether the VMs share what is reserved.
    policy, budgets
        The policy asked for first, and the violation budgets.
    seed, version, command
        To make it again.
    wall_seconds, peak_memory_bytes
        What it took.
    model
        How the recurrent model was trained; None: forecasts did without.
    warnings
        What was repaired or assumed, in words.
    """

    trace: str
    digest: str
    vms: int
    windows: int
    trace_window_us: int
    window_us: int
    start_us: int
    scored_from_s: float
    end_s: float
    cores: float
    pooled: bool
    policy: str
    budgets: tuple[float, ...]
    seed: int
    version: str
    command: str
    wall_seconds: float
    peak_memory_bytes: int
    model: Mapping[str, Any] | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BurstPoint:
    """A policy at one setting of its knob; Forestall's is the budget."""

    policy: str
    variant: Variant
    knob: float
    scores: LendingScores


@dataclass(frozen=True)
class AtBudget:
    """What a policy lends at each budget; None where it cannot keep it.

    Attributes
    ----------
    in_hindsight
        Whether the knob was chosen by how it ended; else the policy promised the budget beforehand.
    points
        One for each budget of the header.
    """

    policy: str
    in_hindsight: bool
    points: tuple[BurstPoint | None, ...]


@dataclass(frozen=True)
class PeakReliability:
    """How often peaks were at or below each quantile that was forecast.

    Attributes
    ----------
    of
        ``pool`` or ``VMs``.
    levels, observed
        Levels, and the share that was observed.
    count
        Pairs of forecast and peak.
    """

    of: str
    levels: tuple[float, ...]
    observed: tuple[float, ...]
    count: int


@dataclass(frozen=True, eq=False)
class Stretch:
    """A few seconds in the life of the pool, or of one VM.

    Attributes
    ----------
    vm_id
        Empty for the pool.
    start_s, window_s
        Start, and length of a decision window.
    use
        Array (decision, window), cores.
    reserved
        Array (decision,), cores.
    median, high
        Arrays (decision,): median and 99 % quantile of the forecast of each window's peak; NaN where there is none.
    """

    vm_id: str
    start_s: float
    window_s: float
    use: FloatArray
    reserved: FloatArray
    median: FloatArray
    high: FloatArray


@dataclass(frozen=True, eq=False)
class BurstResult:
    """Everything that a burst replay has to tell.

    Attributes
    ----------
    headlines
        The policy asked for first: Forestall at each budget, a peer as shipped.
    points
        All policies at all settings.
    experts
        Names, and the trust in each for the pool at the end.
    """

    header: BurstHeader
    headlines: tuple[BurstPoint, ...]
    points: tuple[BurstPoint, ...]
    at_budget: tuple[AtBudget, ...]
    reliability: tuple[PeakReliability, ...]
    experts: Mapping[str, float]
    stretches: tuple[Stretch, ...]
