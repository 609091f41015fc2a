"""Policies compared at equal violations: slack along each policy's curve, with bootstrap intervals.

A policy with a knob is a curve of (violation share, slack). Its slack at a violation share is read off the
monotone lower envelope (the least slack at no more violations), linear in the logarithm of the violation
share. Outside the curve nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.scores.totals import VmTotals

TARGETS: tuple[float, ...] = (0.05, 0.01, 0.005, 0.001)
"""Violation shares at which policies are compared."""
_CHUNK = 100


@dataclass(frozen=True)
class SlackAt:
    """Slack of a policy at a violation share, with its 95 % interval; NaN outside the policy's curve."""

    violation_share: float
    slack: float
    low: float = float("nan")
    high: float = float("nan")


def slack_at(
    violation: FloatArray, slack: FloatArray, targets: Sequence[float] = TARGETS, *, floor: float = 1e-6
) -> FloatArray:
    """Slack at equal violation shares.

    Parameters
    ----------
    violation, slack
        Arrays (..., setting): one policy over its knob. Settings that are NaN in either are ignored.
    targets
        Violation shares, > 0.
    floor
        Where a violation share of 0 stands on the logarithmic axis; half a violation is a fair choice.

    Returns
    -------
    FloatArray
        Array (..., target); NaN outside the range of the violation shares.
    """
    valid = ~(np.isnan(violation) | np.isnan(slack))
    share = np.where(valid, np.maximum(violation, floor), np.inf)
    order = np.argsort(share, axis=-1, kind="stable")
    share = np.take_along_axis(share, order, axis=-1)
    envelope = np.minimum.accumulate(np.take_along_axis(np.where(valid, slack, np.inf), order, axis=-1), axis=-1)
    return np.stack([_read(share, envelope, target) for target in targets], axis=-1)


def _read(share: FloatArray, envelope: FloatArray, target: float) -> FloatArray:
    """Read the envelope (..., setting) at one violation share by log-linear interpolation."""
    settings = share.shape[-1]
    below = (share <= target * (1 + 1e-12)).sum(axis=-1)
    last = np.clip(below - 1, 0, settings - 1)[..., None]
    following = np.clip(below, 0, settings - 1)[..., None]
    left, right = (np.take_along_axis(share, i, axis=-1)[..., 0] for i in (last, following))
    low, high = (np.take_along_axis(envelope, i, axis=-1)[..., 0] for i in (last, following))
    exact = np.isclose(left, target, rtol=1e-12, atol=0.0)
    inside = (below > 0) & (below < settings) & np.isfinite(right) & ~exact
    with np.errstate(divide="ignore", invalid="ignore"):  # a share of zero has no logarithm: the answer is NaN
        span = np.where(inside, np.log(np.where(inside, right / left, math.e)), 1.0)
        along = np.where(inside, np.log(target / np.where(inside, left, target)) / span, 0.0)
        between = low + along * (np.where(inside, high, low) - low)
    return np.where(inside, between, np.where(exact & (below > 0), low, np.nan))


def compare(
    settings: Sequence[VmTotals],
    rng: np.random.Generator,
    targets: Sequence[float] = TARGETS,
    *,
    replicates: int = 1000,
) -> tuple[SlackAt, ...]:
    """Slack of one policy at equal violation shares, with 95 % intervals over VMs.

    Parameters
    ----------
    settings
        Totals of the policy at each setting of its knob, over the same VMs.
    rng
        Give each policy a generator of the same seed, and all of them are resampled alike (paired).
    """
    hits, count, given, wanted = (np.stack([getattr(s, name) for s in settings]).astype(np.float64) for name in _SUMS)
    floor = 0.5 / max(float(count[0].sum()), 1.0)
    everyone = np.ones((1, hits.shape[1]))
    point = slack_at(*_weighted(everyone, hits, count, given, wanted), targets, floor=floor)[0]
    low, high = bootstrap(hits, count, given, wanted, rng, targets, replicates=replicates)
    low, high = (np.where(np.isnan(point), np.nan, bound) for bound in (low, high))
    return tuple(SlackAt(t, float(p), float(a), float(b)) for t, p, a, b in zip(targets, point, low, high, strict=True))


_SUMS = ("violations", "intervals", "allocated", "covered_demand")


def bootstrap(
    violations: FloatArray,
    intervals: FloatArray,
    allocated: FloatArray,
    demand: FloatArray,
    rng: np.random.Generator,
    targets: Sequence[float] = TARGETS,
    *,
    replicates: int = 1000,
    confidence: float = 0.95,
) -> tuple[FloatArray, FloatArray]:
    """Percentile interval of the slack at equal violations, by resampling VMs with replacement.

    Parameters
    ----------
    violations, intervals, allocated, demand
        Sums of each VM at each setting, arrays (setting, vm).

    Returns
    -------
    low, high
        Arrays (target,); over the replicates whose curve reaches the target, NaN where fewer than half do.
    """
    vms = violations.shape[1]
    floor = 0.5 / max(float(intervals[0].sum()), 1.0)
    draws: list[FloatArray] = []
    for done in range(0, replicates, _CHUNK):
        size = min(_CHUNK, replicates - done)
        weight = rng.multinomial(vms, np.full(vms, 1.0 / vms), size=size).astype(np.float64)
        draws.append(slack_at(*_weighted(weight, violations, intervals, allocated, demand), targets, floor=floor))
    return _interval(np.concatenate(draws), confidence)


def _weighted(
    weight: FloatArray,
    violations: FloatArray,
    intervals: FloatArray,
    allocated: FloatArray,
    demand: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Violation share and slack (replicate, setting) under weights (replicate, vm)."""
    hit, count, given, wanted = (weight @ a.T for a in (violations, intervals, allocated, demand))
    share = np.divide(hit, count, out=np.full_like(hit, np.nan), where=count > 0)
    slack = np.divide(given - wanted, wanted, out=np.full_like(hit, np.nan), where=wanted > 0)
    return share, slack


def _interval(draws: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Percentile interval (target,) of draws (replicate, target), NaN where fewer than half are defined."""
    tail = (1.0 - confidence) / 2.0
    defined = (~np.isnan(draws)).mean(axis=0) >= 0.5
    safe = np.where(defined[None, :], draws, 0.0)
    low, high = np.nanquantile(safe, [tail, 1.0 - tail], axis=0)
    return np.where(defined, low, np.nan), np.where(defined, high, np.nan)
