"""Point rules: known values."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.learning.analogue import Analogue
from forestall.learning.expert import realised
from forestall.learning.past import Past
from forestall.learning.rules import LastValue, MovingPeak, PointRule, SeasonalNaive, Smoothing
from forestall.model.forecast import Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.profiling.window import Window

MEAN1, MEAN3 = Target(Statistic.MEAN, 1), Target(Statistic.MEAN, 3)
PEAK3, PEAK12 = Target(Statistic.PEAK, 3), Target(Statistic.PEAK, 12)


def _after(rule: PointRule, demand: FloatArray, step_seconds: int = 300) -> Window:
    window = Window(step_seconds, 1e-3)
    for row in demand:
        window.push(row, np.full(len(row), 10.0))
        rule.observe(window)
    return window


def _past(demand: FloatArray, step_seconds: int = 300) -> Past:
    past = Past(Resource.CPU, step_seconds)
    for i, row in enumerate(demand):
        past.take_in(row, np.full(len(row), 10.0), i * step_seconds)
    return past


def _column(*values: float) -> FloatArray:
    return np.array(values)[:, None]


def test_last_value() -> None:
    window = _after(LastValue(), _column(1.0, 2.0, np.nan))
    assert LastValue().point(window, MEAN1).tolist() == [2.0]


def test_smoothing_is_a_weighted_mean_without_the_gaps() -> None:
    rule = Smoothing()
    window = _after(rule, _column(*[1.0] * 30, np.nan, 4.0))
    age = np.r_[np.arange(31, 1, -1), 0]
    weight = 0.5 ** (age / 6.0)
    expected = (weight * np.r_[np.ones(30), 4.0]).sum() / weight.sum()
    assert rule.point(window, MEAN1)[0] == pytest.approx(expected, rel=1e-6)


def test_moving_peak_is_the_highest_of_the_hour() -> None:
    rule = MovingPeak()
    window = _after(rule, _column(9.0, *[1.0] * 5, 3.0, *[2.0] * 8))
    assert rule.point(window, MEAN1).tolist() == [3.0]
    window = _after(rule, _column(5.0, *[np.nan] * 20))
    assert rule.point(window, MEAN1).tolist() == [5.0]


def test_seasonal_naive_repeats_the_period_that_it_found() -> None:
    pattern = np.random.default_rng(8).gamma(1.0, 1.0, 24)
    past = _past(np.tile(pattern, 30)[:, None])
    rule, window = SeasonalNaive(past.periods), past.window
    assert past.periods.period.tolist() == [24]
    for target in (MEAN1, MEAN3):
        assert rule.point(window, target)[0] == pytest.approx(pattern[target.steps - 1], rel=1e-6)
    assert rule.point(window, PEAK3)[0] == pytest.approx(pattern[:3].max(), rel=1e-6)
    far = Target(Statistic.PEAK, 60)
    assert rule.point(window, far)[0] == pytest.approx(pattern.max(), rel=1e-6)


def test_without_a_period_the_day_is_taken_once_it_has_passed() -> None:
    series = np.random.default_rng(9).gamma(1.0, 1.0, (60, 1))
    past, young = _past(series, step_seconds=3600), _past(series[:10], step_seconds=3600)
    past.periods.period[:] = young.periods.period[:] = 0
    old_point = SeasonalNaive(past.periods).point(past.window, MEAN1)
    assert old_point[0] == pytest.approx(series[-24, 0], rel=1e-6)
    young_point = SeasonalNaive(young.periods).point(young.window, MEAN1)
    assert young_point[0] == pytest.approx(series[9, 0], rel=1e-6)


def test_the_analogue_repeats_a_pattern() -> None:
    pattern = np.random.default_rng(10).gamma(1.0, 1.0, (37, 3))
    rule = Analogue()
    series = np.tile(pattern, (12, 1))
    errors, naive = [], []
    window = Window(300, 1e-3)
    for i, row in enumerate(series):
        if i > 300:
            errors.append(np.abs(rule.point(window, MEAN1) - row))
            naive.append(np.abs(window.last - row))
        window.push(row, np.full(3, 10.0))
        rule.observe(window)
    assert np.mean(errors) < 0.5 * np.mean(naive)


def test_the_analogue_knows_no_future_beyond_its_longest_horizon() -> None:
    rule = Analogue()
    window = _after(rule, np.random.default_rng(11).gamma(1.0, 1.0, (200, 2)))
    for target in (Target(Statistic.MEAN, 40), Target(Statistic.PEAK, 60)):
        assert np.isfinite(rule.point(window, target)).all()


def test_realised_is_what_the_target_became() -> None:
    window = _after(LastValue(), _column(1.0, 7.0, np.nan, 3.0))
    assert realised(window, MEAN3).tolist() == [3.0]
    assert realised(window, PEAK3).tolist() == [7.0]
    assert realised(_after(LastValue(), _column(1.0, np.nan)), MEAN1).tolist() == pytest.approx([np.nan], nan_ok=True)
