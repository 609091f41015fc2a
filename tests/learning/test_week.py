"""Quantiles of the last week as a forecast of means far ahead."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.learning.learner import Learner, LearnerSettings
from forestall.learning.past import Past
from forestall.learning.week import Week
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray

STEP = 900
DAY, WEEK = 96, 672
TARGETS = (Target(Statistic.MEAN, DAY), Target(Statistic.PEAK, DAY))


def drive(demand: FloatArray, keep: tuple[int, IntArray] | None = None) -> list[FloatArray]:
    """Forecasts (target, vm, level) after each row of demand (time, vm); ``keep``: a row, and who is kept before it."""
    past = Past(Resource.CPU, STEP)
    week, said = Week(past.week, TARGETS, LEVELS), []
    for i, row in enumerate(demand):
        if keep and i == keep[0]:
            past.keep(keep[1])
            week.keep(keep[1])
        kept = row[keep[1]] if keep and i >= keep[0] else row
        past.take_in(kept, np.full(len(kept), 64.0), i * STEP)
        week.observe(past.window, i * STEP)
        said.append(week.forecast(past.window, i * STEP))
    return said


def noise(steps: int, vms: int = 3) -> FloatArray:
    return np.random.default_rng(5).gamma(2.0, 0.5, (steps, vms))


def test_it_is_the_quantiles_of_the_week_and_of_no_more() -> None:
    demand = noise(2 * WEEK)
    demand[:WEEK] *= 10.0
    (mean, _) = drive(demand)[-1]
    for level in (0.05, 0.5, 0.9, 0.99):
        expected = np.quantile(demand[-WEEK:], level, axis=0, method="nearest")
        np.testing.assert_allclose(mean[:, LEVELS.index(level)], expected, rtol=0.05)


def test_of_peaks_and_of_the_young_it_says_nothing() -> None:
    demand = noise(2 * DAY)
    demand[: DAY + 2, 2] = np.nan
    said = np.stack(drive(demand))
    assert np.isnan(said[:, 1]).all()
    assert np.isnan(said[: DAY - 1, 0, :2]).all()
    assert np.isfinite(said[DAY:, 0, :2]).all()
    assert np.isnan(said[:, 0, 2]).all(), "less than a day was seen of it"


def test_vms_may_be_forgotten() -> None:
    demand, kept, at = noise(3 * DAY) * 4.0 ** np.arange(3), np.array([0, 2]), 2 * DAY
    some, whole = drive(demand, (at, kept)), drive(demand)
    for forecast, expected in zip(some[at:], whole[at:], strict=True):
        np.testing.assert_allclose(forecast, expected[:, kept], rtol=0.3)  # whose turn it is to be renewed may differ


@pytest.mark.parametrize(("ahead", "there"), [(1, False), (DAY // 2 - 1, False), (DAY // 2, True), (DAY, True)])
def test_it_takes_part_where_half_a_day_ahead_is_asked_for(ahead: int, there: bool) -> None:
    learner = Learner(Resource.CPU, STEP, LearnerSettings((Target(Statistic.MEAN, ahead),)))
    assert ("week" in [expert.name for expert in learner.experts]) is there
