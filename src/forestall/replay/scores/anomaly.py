"""How good anomaly scores are: area under precision and recall, and the score of the Numenta Anomaly Benchmark.

The first 15 % of each series only teach (in the benchmark 750 rows at most). A row is positive if it lies in a window
around a known anomaly.

Source: Lavin & Ahmad, "Evaluating Real-Time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark", ICMLA 2015
(standard profile: a false alarm costs 0.11, a window missed 1; early in the window is worth more).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.scores.risk import average_precision

PROBATION = 0.15
FALSE_ALARM_COST = 0.11
ALARM_SHARE = 0.01
AFTER_WINDOW_LENGTHS = 3.0
"""So many lengths after a window a false alarm costs in full; just after it, next to nothing."""


@dataclass(frozen=True)
class AnomalyScores:
    """Scores of one detector. NaN where nothing could be scored.

    Attributes
    ----------
    auc_pr
        Mean over series with a known anomaly of the average precision.
    base_rate
        The same for scores without knowledge: the mean share of rows that are positive.
    nab
        Benchmark score, alarms on the 1 % of rows of each series that score highest: 100 is perfect, 0 no alarm at all.
    windows, found
        Windows of anomalies, and those in which there was an alarm.
    false_alarms
        Alarms outside of windows, as a share of all rows.
    """

    auc_pr: float
    base_rate: float
    nab: float
    windows: int
    found: int
    false_alarms: float


def score_anomalies(series: Sequence[tuple[FloatArray, BoolArray]]) -> AnomalyScores:
    """Score one detector.

    Parameters
    ----------
    series
        For each its scores and whether a row lies in a window, arrays (row,) in the order of time.
    """
    precisions, shares, gains, windows, found, false, rows = [], [], 0.0, 0, 0, 0, 0
    for all_scores, all_labels in series:
        first = int(PROBATION * len(all_scores))
        scores, labels = all_scores[first:], all_labels[first:]
        if not len(scores):
            continue
        if labels.any():
            precisions.append(_average_precision(scores, labels))
            shares.append(float(labels.mean()))
        alarms = alarmed(scores)
        begins, ends = windows_of(labels)
        hits = [alarms[a : b + 1].any() for a, b in zip(begins, ends, strict=True)]
        gains += benchmark(alarms, labels)
        windows, found = windows + len(begins), found + int(sum(hits))
        false, rows = false + int((alarms & ~labels).sum()), rows + len(scores)
    return AnomalyScores(
        auc_pr=float(np.mean(precisions)) if precisions else float("nan"),
        base_rate=float(np.mean(shares)) if shares else float("nan"),
        nab=100.0 * (gains + windows) / (2 * windows) if windows else float("nan"),
        windows=windows,
        found=found,
        false_alarms=false / rows if rows else float("nan"),
    )


def _average_precision(scores: FloatArray, labels: BoolArray) -> float:
    values, place = np.unique(scores, return_inverse=True)
    total = np.bincount(place, minlength=len(values))
    return average_precision(total, np.bincount(place[labels], minlength=len(values)))


def alarmed(scores: FloatArray) -> BoolArray:
    """Which rows (row,) are alarms: at most 1 % of them, those that score highest."""
    allowed = round(ALARM_SHARE * len(scores))
    bound = np.sort(scores)[::-1][min(allowed, len(scores) - 1)]
    return np.asarray(scores > bound)


def windows_of(labels: BoolArray) -> tuple[IntArray, IntArray]:
    """First and last row of each window."""
    edges = np.diff(np.concatenate([[0], labels.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1


def benchmark(alarms: BoolArray, labels: BoolArray) -> float:
    """Sum of gains and costs: the first alarm of a window, windows without one, false alarms."""
    begins, ends = windows_of(labels)
    total = 0.0
    for first, last in zip(begins, ends, strict=True):
        hits = np.flatnonzero(alarms[first : last + 1])
        length = last - first + 1
        total += _worth((hits[0] - length) / length) / _worth(-1.0) if len(hits) else -1.0
    for row in np.flatnonzero(alarms & ~labels):
        k = int(np.searchsorted(ends, row)) - 1
        behind = (row - ends[k]) / max(ends[k] - begins[k], 1) if k >= 0 else np.inf
        total += FALSE_ALARM_COST * (_worth(behind) if behind <= AFTER_WINDOW_LENGTHS else -1.0)
    return total


def _worth(position: float) -> float:
    """What an alarm is worth: -1 is the beginning of a window, 0 its end, above 0 behind it, in its lengths."""
    return float(2.0 / (1.0 + np.exp(5.0 * position)) - 1.0)
