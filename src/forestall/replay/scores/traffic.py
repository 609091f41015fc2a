"""Scores of paths: how the worst link is used, what is lost, and how often switches are told something new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.fabric.paths import Paths
from forestall.model.samples import BoolArray, FloatArray

CHANGED = 1e-3
"""A smaller change of a share is none."""


@dataclass(frozen=True)
class TrafficScores:
    """What a policy is worth, over the intervals that are scored.

    Attributes
    ----------
    intervals
        How many they are.
    mean_worst, p99_worst
        Utilisation of the worst link: mean, and that of the worst hundredth of intervals.
    over_share
        Share of intervals in which a link is asked for more than it carries.
    lost_share
        Share of the traffic on all links that is beyond what they carry.
    mean_hops
        Links on the way of a byte.
    changes
        Rules in switches that change from an interval to the next, on average: one for each node of a path whose share
        of a pair's traffic changes.
    pair_changes
        Pairs whose paths change, on average.
    """

    intervals: int
    mean_worst: float
    p99_worst: float
    over_share: float
    lost_share: float
    mean_hops: float
    changes: float
    pair_changes: float


def score_traffic(paths: Paths, shares: FloatArray, traffic: FloatArray, scored: BoolArray) -> TrafficScores:
    """Score shares (time, path) that were in force while there was traffic (time, pair), in some intervals (time,)."""
    if not scored.any():
        return TrafficScores(0, *(float("nan"),) * 7)
    flow = shares * traffic[:, paths.pair]
    load = (paths.uses @ flow[scored].T).T
    worst = (load / paths.capacity).max(axis=1)
    beyond = np.maximum(load - paths.capacity, 0.0).sum()
    hops = np.asarray(paths.uses.sum(axis=0)).ravel()
    changed = np.abs(np.diff(shares, axis=0)) > CHANGED
    both = scored[1:]
    many = max(int(both.sum()), 1)
    begins = np.flatnonzero(np.diff(paths.pair, prepend=-1))  # paths of a pair stand together
    by_pair = np.logical_or.reduceat(changed, begins, axis=1) if len(begins) else changed
    return TrafficScores(
        intervals=int(scored.sum()),
        mean_worst=float(worst.mean()),
        p99_worst=float(np.quantile(worst, 0.99)),
        over_share=float((worst > 1.0).mean()),
        lost_share=float(beyond / max(load.sum(), 1e-9)),
        mean_hops=float((flow[scored] @ hops).sum() / max(flow[scored].sum(), 1e-9)),
        changes=float((changed[both] @ hops).sum() / many),
        pair_changes=float(by_pair[both].sum() / many),
    )
