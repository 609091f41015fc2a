"""How good risk is: the probability that demand exceeds a limit, scored as forecasters score.

Pairs of probability and outcome are counted in bins that are even in log-odds, so that tens of millions of
pairs take no memory, and small probabilities, where risk lives, stay apart. Brier scores are exact; ranks
(AUC, AUPRC) treat probabilities of one bin as tied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray

_EDGE = 1e-8


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of equal mass: ``count`` pairs, the mean probability stated, the share that came true."""

    count: int
    stated: float
    observed: float


@dataclass(frozen=True)
class RiskScores:
    """Scores of stated probabilities. NaN where there was nothing to score, or only one outcome.

    Attributes
    ----------
    count, base_rate
        Pairs, and the share of them in which demand exceeded the limit.
    brier, brier_skill
        Mean squared error; one minus its ratio to that of always stating the base rate.
    ece
        Mean |stated − observed| over bins of equal mass.
    auc, auprc
        Area under the ROC curve; average precision.
    reliability
        The bins behind ``ece``, by increasing probability.
    """

    count: int
    base_rate: float
    brier: float
    brier_skill: float
    ece: float
    auc: float
    auprc: float
    reliability: tuple[ReliabilityBin, ...]


class RiskCounts:
    """Counts of stated probabilities by outcome; add as many parts as there are, then score.

    Parameters
    ----------
    bins
        Bins over log-odds from 1e-8 to 1 − 1e-8.
    """

    def __init__(self, bins: int = 10_000) -> None:
        self.bins = bins
        self.hits: IntArray = np.zeros(bins, dtype=np.int64)
        self.total: IntArray = np.zeros(bins, dtype=np.int64)
        self.stated: FloatArray = np.zeros(bins)
        self.squared_error = 0.0

    def add(self, probability: FloatArray, outcome: BoolArray | FloatArray) -> None:
        """Count pairs; the arrays have one shape, and NaN in either leaves the pair out."""
        truth = np.asarray(outcome, dtype=np.float64).ravel()
        stated = probability.ravel()
        valid = ~(np.isnan(stated) | np.isnan(truth))
        stated, truth = stated[valid], truth[valid]
        place = self._bin(stated)
        self.total += np.bincount(place, minlength=self.bins)
        self.hits += np.bincount(place[truth > 0], minlength=self.bins)
        self.stated += np.bincount(place, weights=stated, minlength=self.bins)
        self.squared_error += float(((stated - truth) ** 2).sum())

    def scores(self, reliability_bins: int = 15) -> RiskScores:
        """Score what was counted."""
        count = int(self.total.sum())
        base = _share(self.hits.sum(), count)
        brier, chance = _share(self.squared_error, count), base * (1.0 - base)
        bins = equal_mass(self.total, self.hits, self.stated, reliability_bins)
        gap = sum(b.count * abs(b.stated - b.observed) for b in bins)
        return RiskScores(
            count=count,
            base_rate=base,
            brier=brier,
            brier_skill=1.0 - brier / chance if chance > 0 else float("nan"),
            ece=_share(gap, count),
            auc=auc(self.total, self.hits),
            auprc=average_precision(self.total, self.hits),
            reliability=bins,
        )

    def _bin(self, probability: FloatArray) -> IntArray:
        p = np.clip(probability, _EDGE, 1.0 - _EDGE)
        odds = np.log(p / (1.0 - p))
        half = np.log((1.0 - _EDGE) / _EDGE)
        place: IntArray = np.clip((odds + half) / (2 * half) * self.bins, 0, self.bins - 1).astype(np.int64)
        return place


def auc(total: IntArray, hits: IntArray) -> float:
    """Area under the ROC curve of bins by increasing score; pairs of one bin count half."""
    misses = total - hits
    below = np.cumsum(misses) - misses
    won = float((hits * (below + 0.5 * misses)).sum())
    return _share(won, float(hits.sum()) * float(misses.sum()))


def average_precision(total: IntArray, hits: IntArray) -> float:
    """Average precision Σ (R_k − R_{k−1}) P_k over bins by decreasing score."""
    found, raised = np.cumsum(hits[::-1]), np.cumsum(total[::-1])
    precision = found / np.maximum(raised, 1)
    return _share(float((hits[::-1] * precision).sum()), float(hits.sum()))


def equal_mass(total: IntArray, hits: IntArray, stated: FloatArray, bins: int) -> tuple[ReliabilityBin, ...]:
    """Merge fine bins into at most ``bins`` of about equal mass; a fine bin is never split."""
    mass = total.sum()
    if mass == 0:
        return ()
    middle = (np.cumsum(total) - 0.5 * total) / mass
    place = np.minimum((middle * bins).astype(np.int64), bins - 1)
    sums = [np.bincount(place, weights=v, minlength=bins) for v in (total, stated, hits)]
    return tuple(ReliabilityBin(int(n), float(p / n), float(k / n)) for n, p, k in zip(*sums, strict=True) if n > 0)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
