"""Features: shapes, the past alone, and no absolute values."""

from __future__ import annotations

import numpy as np
import pytest
from series import STEP_SECONDS, fleet

from forestall.learning.features import WeekStatistics, feature_matrix, seasonal_lags, sorted_quantiles
from forestall.learning.rules import SeasonalNaive
from forestall.model.forecast import Statistic, Target
from forestall.model.samples import FloatArray
from forestall.profiling.period import Periods
from forestall.profiling.window import Window

TARGETS = (Target(Statistic.MEAN, 1), Target(Statistic.MEAN, 12), Target(Statistic.PEAK, 3), Target(Statistic.PEAK, 40))


def _features(demand: FloatArray, target: Target, unit: float = 1.0) -> FloatArray:
    window, week, periods = Window(STEP_SECONDS, 1e-3 * unit), WeekStatistics(), Periods()
    for row in demand:
        window.push(row * unit, np.full(len(row), 8.0 * unit))
        periods.observe(window)
        week.refresh(window)
    now = (len(demand) - 1) * STEP_SECONDS
    return feature_matrix(window, week, target, now, SeasonalNaive(periods).point(window, target)).astype(np.float64)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_shape_and_values(target: Target) -> None:
    made = [_features(fleet(steps), target) for steps in (1, 2, 13, 400)]
    assert len({m.shape for m in made}) == 1
    assert made[0].shape[0] == 6
    assert not any(np.isinf(m).any() for m in made)
    assert np.isnan(made[-1]).mean() < 0.2


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_nothing_absolute_leaks(target: Target) -> None:
    demand = fleet(400)
    for unit in (1e3, 1e-2, 2.0**30):
        np.testing.assert_allclose(_features(demand, target, unit), _features(demand, target), rtol=2e-3, atol=1e-4)


def test_a_vm_does_not_see_the_others() -> None:
    demand = fleet(400)
    other = demand.copy()
    other[:, 1:] *= 0.3
    for target in TARGETS:
        np.testing.assert_array_equal(_features(demand, target)[0], _features(other, target)[0])


@pytest.mark.parametrize("period", [1, 5, 12, 288])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_seasonal_lags_are_one_period_before_and_never_ahead(target: Target, period: int) -> None:
    lags = seasonal_lags(target, period)
    assert len(lags) >= 1
    assert min(lags) >= 0
    if target.statistic is Statistic.MEAN and period >= target.steps:
        assert list(lags) == [period - target.steps]


def test_quantiles_leave_gaps_out() -> None:
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan], [2.0, np.nan]], np.float32)
    got = sorted_quantiles(values, (0.0, 0.5, 1.0))
    assert got[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(got[:, 1]).all()


def test_the_week_is_renewed_within_the_hour_for_every_vm() -> None:
    demand = fleet(600)
    week = WeekStatistics()
    window = Window(STEP_SECONDS, 1e-3)
    for row in demand:
        window.push(row, np.full(6, 8.0))
        week.refresh(window)
    for vm in range(6):
        seen = demand[: 600 - (600 - vm) % 12, vm]
        assert week.level[0, vm] == pytest.approx(np.nanmedian(seen), abs=0.02)
        assert week.change[1, vm] == pytest.approx(np.nanquantile(np.diff(seen), 0.99, method="nearest"), abs=0.02)
