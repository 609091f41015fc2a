"""The result of a demand replay: the values and arrays that the report and the summary are made from.

Shares are 0 to 1, instants are seconds UTC. Everything but the header may be empty:
a report shows what there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from forestall.model.forecast import Statistic
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray
from forestall.replay.scores.allocation import AllocationScores
from forestall.replay.scores.curve import SlackAt
from forestall.replay.scores.forecast import ForecastScores
from forestall.replay.scores.host import HostScores
from forestall.replay.scores.risk import RiskScores
from forestall.replay.scores.warning import WarningScores


class Variant(StrEnum):
    """How a policy was set: Forestall, a peer as shipped, a peer on its best knobs, perfect foresight."""

    FORESTALL = "forestall"
    SHIPPED = "shipped"
    TUNED = "tuned"
    ORACLE = "oracle"


@dataclass(frozen=True)
class Header:
    """What was replayed, by what, and what it took.

    Attributes
    ----------
    trace, digest
        Name and SHA-256 of the trace.
    vms, intervals, step_seconds
        Size of the trace: VMs, intervals of the grid, length of one.
    start, evaluate_from, end
        First instant, first instant evaluated, and the end of the last interval.
    calendar
        Whether instants are real dates.
    policy, budgets, lead_steps
        The policy asked for, its violation budgets, and the delay of an action in intervals.
    seed, version, command
        To make it again.
    wall_seconds, peak_memory_bytes
        What it took.
    warnings
        What was repaired or left out, in words.
    """

    trace: str
    digest: str
    vms: int
    intervals: int
    step_seconds: int
    start: int
    evaluate_from: int
    end: int
    calendar: bool
    policy: str
    budgets: tuple[float, ...]
    lead_steps: int
    seed: int
    version: str
    command: str
    wall_seconds: float
    peak_memory_bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CurvePoint:
    """A policy at one setting of its knob on one resource."""

    policy: str
    variant: Variant
    resource: Resource
    setting: float
    scores: AllocationScores


@dataclass(frozen=True)
class SlackRow:
    """A policy's slack at equal violation shares on one resource, with 95 % intervals over VMs."""

    policy: str
    resource: Resource
    slack: tuple[SlackAt, ...]


@dataclass(frozen=True)
class Reliability:
    """Share of actuals at or below each forecast quantile, for one kind of VM (busy, idle, cold, ...).

    Attributes
    ----------
    levels, observed
        Quantile levels asked for and the share observed, of equal length.
    count
        Pairs of forecast and actual.
    """

    group: str
    resource: Resource
    horizon_steps: int
    levels: tuple[float, ...]
    observed: tuple[float, ...]
    count: int


@dataclass(frozen=True)
class RiskResult:
    """Scores of stated risk for one horizon, and of the alarms made from it."""

    resource: Resource
    horizon_seconds: int
    scores: RiskScores
    warnings: WarningScores | None = None


@dataclass(frozen=True)
class ForecastResult:
    """Scores of the forecasts of one target for one kind of VM (``all``: every VM)."""

    resource: Resource
    statistic: Statistic
    horizon_steps: int
    group: str
    scores: ForecastScores


@dataclass(frozen=True, eq=False)
class Exemplar:
    """A window in the life of one VM.

    Attributes
    ----------
    group
        Kind of VM that it stands for: calm, periodic, bursty or cold.
    times, demand, allocated, limit
        Arrays (time,); NaN in gaps, limit inf where there is none.
    levels, quantiles
        Quantile levels, and array (time, level) of the forecast made for each interval; may be empty.
    """

    group: str
    vm_id: str
    resource: Resource
    times: IntArray
    demand: FloatArray
    allocated: FloatArray
    limit: FloatArray
    levels: tuple[float, ...]
    quantiles: FloatArray


@dataclass(frozen=True, eq=False)
class PoolUse:
    """Use of one host, or of all together, over time.

    Attributes
    ----------
    host
        Name of the host.
    capacity
        What there is, in the resource's unit.
    times, limit_sum, allocated, demand
        Arrays (time,): sums over the VMs.
    price
        Array (time,): λ, the weighted probability of falling short that every VM shares; NaN if unknown.
    scores
        Scores of the whole pool; None where they were not computed.
    others
        Scores of simpler ways to share the same pool, by name.
    """

    host: str
    resource: Resource
    capacity: float
    times: IntArray
    limit_sum: FloatArray
    allocated: FloatArray
    demand: FloatArray
    price: FloatArray
    scores: HostScores | None = None
    others: tuple[tuple[str, HostScores], ...] = ()


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """Everything that a demand replay has to tell.

    Attributes
    ----------
    headlines
        The policy asked for at the budget asked for, one point for each resource (and budget).
    points
        All policies at all settings, including the oracle; may repeat the headlines.
    calibration
        The policy asked for at several budgets; asked is ``scores.budget``, measured ``violation_share``.
    """

    header: Header
    headlines: tuple[CurvePoint, ...] = ()
    points: tuple[CurvePoint, ...] = ()
    slack: tuple[SlackRow, ...] = ()
    calibration: tuple[CurvePoint, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    risk: tuple[RiskResult, ...] = ()
    forecasts: tuple[ForecastResult, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    pools: tuple[PoolUse, ...] = ()
