"""From what was decided and scored to what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from forestall.learning.peaks.model import LEVELS
from forestall.model.samples import BoolArray, FloatArray
from forestall.replay.burst.replay import BurstOutcome
from forestall.replay.burst.result import (
    AtBudget,
    BurstHeader,
    BurstPoint,
    BurstResult,
    PeakReliability,
    Stretch,
)
from forestall.replay.burst.run import BurstRun
from forestall.replay.burst.windows import Windows
from forestall.replay.policy_names import FORESTALL
from forestall.replay.scores.lending import violated

STRETCH_SECONDS = 10.0
VMS_SHOWN = 3
_MEDIAN, _HIGH = LEVELS.index(0.5), LEVELS.index(0.99)


def assemble(outcome: BurstOutcome, header: BurstHeader, vm_ids: Sequence[str], budget: int = 0) -> BurstResult:
    """Everything that is told; ``budget`` is the position of the one that single stretches are shown at."""
    mine = tuple(p for p in outcome.points if p.policy == header.policy)
    return BurstResult(
        header=header,
        # The first of a peer's points is the one as it is shipped.
        headlines=mine if header.policy == FORESTALL else mine[:1],
        points=outcome.points,
        at_budget=at_budgets(outcome.points, header.budgets),
        reliability=_reliability(outcome.windows, outcome.run, pooled=header.pooled) if outcome.run else (),
        experts=outcome.run.experts if outcome.run else {},
        stretches=_stretches(outcome, header, vm_ids, budget),
    )


def at_one(result: BurstResult, outcome: BurstOutcome, budget: int, vm_ids: Sequence[str]) -> BurstResult:
    """What is told of one budget of several, by its position."""
    asked = result.header.budgets[budget]
    header = replace(result.header, budgets=(asked,))
    points = tuple(p for p in outcome.points if p.policy != FORESTALL or p.knob == asked)
    return assemble(replace(outcome, points=points), header, vm_ids, budget)


def at_budgets(points: Sequence[BurstPoint], budgets: tuple[float, ...]) -> tuple[AtBudget, ...]:
    """What each policy lends at each budget: Forestall as it promised, the others as it turns out to be best."""
    rows = []
    for policy in dict.fromkeys(p.policy for p in points):
        mine = [p for p in points if p.policy == policy]
        promised = policy == FORESTALL
        found = tuple(_promised(mine, b) if promised else in_hindsight(mine, b) for b in budgets)
        rows.append(AtBudget(policy, not promised, found))
    return tuple(rows)


def _promised(points: Sequence[BurstPoint], budget: float) -> BurstPoint | None:
    return next((p for p in points if p.knob == budget), None)


def in_hindsight(points: Sequence[BurstPoint], budget: float) -> BurstPoint | None:
    """The setting that lends most of those that violated no more than the budget."""
    kept = [p for p in points if p.scores.violation_share <= budget + 1e-12]
    return max(kept, key=lambda p: p.scores.lent_share, default=None)


def _reliability(windows: Windows, run: BurstRun, *, pooled: bool) -> tuple[PeakReliability, ...]:
    """Of the pool, or of its VMs: what decisions were made on."""
    scored = slice(windows.first, len(windows.use))
    peaks = windows.peak[scored]
    said = run.pool_quantiles[scored, None] if pooled else run.own_quantiles[scored]
    known = ~np.isnan(said[..., 0])
    if not known.any():
        return ()
    below = (peaks[..., None] <= said)[known].mean(axis=0)
    of = "pool" if pooled else "VMs"
    return (PeakReliability(of, LEVELS, tuple(map(float, below)), int(known.sum())),)


def _stretches(outcome: BurstOutcome, header: BurstHeader, vm_ids: Sequence[str], budget: int) -> tuple[Stretch, ...]:
    """The stretch with most violations: of the pool, or of each of the busiest VMs."""
    windows = outcome.windows
    if windows.first >= len(windows.use):
        return ()
    granted = outcome.granted[budget][: len(windows.use)]
    run = outcome.run if header.policy == FORESTALL else None
    if header.pooled:
        series = np.nansum(granted, axis=1, keepdims=True)
        return (_stretch(windows, series, 0, "", run.pool_quantiles if run else None, header),)
    known = np.flatnonzero(~np.isnan(granted[-1]))
    busiest = known[np.argsort(-windows.use[windows.first :, :, known].mean(axis=(0, 1)), kind="stable")]
    return tuple(
        _stretch(windows, granted, s, vm_ids[s], run.own_quantiles[:, s] if run else None, header)
        for s in map(int, busiest[:VMS_SHOWN])
    )


def _stretch(
    windows: Windows, granted: FloatArray, series: int, vm_id: str, quantiles: FloatArray | None, header: BurstHeader
) -> Stretch:
    window_s = header.window_us / 1e6
    count = max(round(STRETCH_SECONDS / window_s), 1)
    use = windows.use[:, :, series]
    known = int(np.argmax(~np.isnan(granted[:, series])))
    first = _worst(violated(windows.use, granted)[:, series], max(windows.first, known), count)
    part = slice(first, first + count)
    said = quantiles if quantiles is not None else np.full((len(use), len(LEVELS)), np.nan)
    return Stretch(
        vm_id, first * window_s, window_s, use[part], granted[part, series], said[: len(use)][part, _MEDIAN],
        said[: len(use)][part, _HIGH],
    )  # fmt: skip


def _worst(bad: BoolArray, first: int, count: int) -> int:
    """Start of the first stretch of so many decisions, from ``first`` on, with most violations."""
    total = np.concatenate([[0], np.cumsum(bad[first:])])
    ends = np.arange(min(count, len(total) - 1), len(total))
    return first + int(np.argmax(total[ends] - total[ends - ends[0]]))
