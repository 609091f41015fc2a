"""Scores of lending, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forestall.replay.scores.lending import lent_share, score_lending, violated

NAN = float("nan")
USE = np.array([[[0.5], [1.0]], [[0.0], [0.0]], [[1.5], [0.5]], [[0.2], [0.2]]])
"""Four decision windows of two windows, one series."""


def test_a_pool_by_hand() -> None:
    granted = np.array([[1.0], [1.0], [1.0], [0.2]])
    scores = score_lending(USE, granted, 2.0, 0.1)
    assert scores.decisions == 4
    assert scores.violation_share == scores.worst_violation_share == 0.25, "exactly what is reserved is enough"
    assert scores.unmet_share == pytest.approx(0.5 / 3.9)
    # Idle: 1.5, 1, 2, 2, .5, 1.5, 1.8, 1.8; lent of it at most 1, 1, 1, 1, 1, 1, 1.8, 1.8.
    assert scores.lent_share == pytest.approx((1 + 1 + 1 + 1 + 0.5 + 1 + 1.8 + 1.8) / 12.1)
    assert scores.mean_reserved_cores == pytest.approx(0.8)
    assert scores.changes_per_s == pytest.approx(1 / 3 / 0.1)


def test_lending_what_is_not_idle_counts_for_nothing() -> None:
    assert lent_share(USE[:1], np.array([[0.0]]), 2.0) == 1.0
    assert lent_share(USE[:1], np.array([[5.0]]), 2.0) == 0.0
    assert violated(USE[:1], np.array([[0.999]])).all()
    assert not violated(USE[:1], np.array([[1.0 - 1e-12]])).any()


def test_two_series_have_a_mean_and_a_worst() -> None:
    use = np.concatenate([USE, 0 * USE], axis=2)
    scores = score_lending(use, np.full((4, 2), 0.75), 2.0, 0.1)
    assert (scores.violation_share, scores.worst_violation_share) == (0.25, 0.5)
    assert scores.lent_share == pytest.approx((0.5 * 8) / 12.1)
    assert scores.changes_per_s == 0.0


def test_what_was_not_known_does_not_count() -> None:
    use = np.concatenate([USE, USE], axis=2)
    granted = np.array([[2.0, NAN], [2.0, NAN], [2.0, 1.0], [2.0, 1.005]])
    scores = score_lending(use, granted, 4.0, 0.1)
    assert scores.worst_violation_share == 0.5, "one of two windows in which it was known"
    assert scores.violation_share == 0.25
    assert scores.unmet_share == pytest.approx(0.5 / (3.9 + 2.4))
    assert scores.mean_reserved_cores == pytest.approx((2 + 2 + 3 + 3.005) / 4)
    assert scores.changes_per_s == 0.0, "to become known is no change, nor is a move below a hundredth"
    never = score_lending(use, np.full((4, 2), [2.0, NAN]), 4.0, 0.1)
    assert never.violation_share == never.worst_violation_share == 0.0


def test_nothing_scored() -> None:
    scores = score_lending(USE[:0], np.zeros((0, 1)), 2.0, 0.1)
    assert scores.decisions == 0
    assert math.isnan(scores.lent_share)
    assert math.isnan(scores.violation_share)
