"""Forecast scores against values worked out by hand."""

import numpy as np
import pytest

from forestall.replay.scores.forecast import (
    peak_error,
    pinball_loss,
    score_forecast,
    score_groups,
    window_peak,
)
from forestall.replay.scores.groups import classify, lag_correlation

NAN = float("nan")
LEVELS = (0.1, 0.5, 0.9)


def test_pinball_loss_weighs_both_sides() -> None:
    assert pinball_loss(np.array([3.0, 1.0]), np.array([2.0, 2.0]), 0.9) == pytest.approx([0.9, 0.1])


def test_hand_computed_scores() -> None:
    actual = np.array([[2.0], [4.0], [NAN], [6.0]])
    quantiles = np.tile([1.0, 3.0, 5.0], (4, 1, 1))
    naive = np.array([[4.0], [5.0], [1.0], [NAN]])
    scores = score_forecast(actual, quantiles, LEVELS, naive)
    assert scores.count == 3
    assert dict(scores.pinball)[0.5] == pytest.approx((0.5 + 0.5 + 1.5) / 3)
    assert dict(scores.pinball)[0.9] == pytest.approx((0.3 + 0.1 + 0.9) / 3)
    # rows that both cover: errors of the median 1 and 1, of the naive forecast 2 and 1
    assert dict(scores.relative_pinball)[0.5] == pytest.approx(2 / 3)
    assert scores.mase == pytest.approx(2 / 3)
    assert dict(scores.coverage) == pytest.approx({0.1: 0.0, 0.5: 1 / 3, 0.9: 2 / 3})
    assert dict(scores.width) == pytest.approx({0.1: 0.5, 0.5: 0.0, 0.9: 0.5})


def test_a_perfect_forecast_loses_nothing() -> None:
    actual = np.arange(10.0)[:, None]
    scores = score_forecast(actual, np.repeat(actual[..., None], 3, axis=2), LEVELS, actual + 1)
    assert dict(scores.pinball) == {0.5: 0.0, 0.9: 0.0}
    assert scores.mase == 0.0


def test_nothing_to_score_is_nan() -> None:
    empty = np.full((3, 1), NAN)
    scores = score_forecast(empty, np.zeros((3, 1, 3)), LEVELS, empty)
    assert scores.count == 0
    assert np.isnan(scores.mase)
    assert np.isnan(dict(scores.coverage)[0.5])


def test_groups_apart() -> None:
    actual = np.array([[1.0, 2.0, 3.0]])
    groups = np.array(["calm", "cold", "calm"])
    scores = score_groups(actual, np.zeros((1, 3, 3)), LEVELS, actual * 0, groups)
    assert {name: s.count for name, s in scores.items()} == {"all": 3, "calm": 2, "cold": 1}


def test_peak_of_the_coming_window() -> None:
    values = np.array([[1.0], [5.0], [2.0], [NAN], [3.0], [4.0]])
    assert window_peak(values, 2)[:, 0] == pytest.approx([5, NAN, NAN, 4, NAN, NAN], nan_ok=True)
    assert np.isnan(window_peak(values, 6)).all()
    bias, error = peak_error(np.array([[2.0], [4.0], [NAN]]), np.array([[3.0], [3.0], [9.0]]))
    assert (bias, error) == pytest.approx((0.0, 1 / 3))


def test_kinds_of_vms() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(24 * 7)
    series = [
        1 + 0.05 * rng.standard_normal(len(t)),
        1 + np.sin(2 * np.pi * t / 24),
        (rng.random(len(t)) < 0.05).astype(float),
        1 + np.sin(2 * np.pi * t / 24),
    ]
    demand = np.stack(series, axis=1)
    kinds = classify(demand, np.array([0, 0, 0, 60]), 72, 3600)
    assert kinds.tolist() == ["calm", "periodic", "bursty", "cold"]


def test_lag_correlation_skips_gaps() -> None:
    wave = np.sin(2 * np.pi * np.arange(60) / 6)[:, None]
    wave[7:11] = NAN
    assert lag_correlation(wave, 6) == pytest.approx([1.0])
    assert lag_correlation(wave, 3) == pytest.approx([-1.0])
    assert lag_correlation(np.ones((5, 2)), 9).tolist() == [0.0, 0.0]
