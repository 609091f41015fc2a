"""Recalibration: what is called the 99 % quantile is exceeded in 1 % of cases, for each VM."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from forestall.learning.calibration import Recalibration
from forestall.learning.levels import logit, tail, value_at
from forestall.model.forecast import LEVELS
from forestall.model.samples import FloatArray

TRUE = stats.gamma(2.0).ppf(LEVELS)


def _coverage(issued: FloatArray, steps: int = 9000, vms: int = 6) -> FloatArray:
    """Share (vm, level) of the second half's outcomes at or below the recalibrated quantiles."""
    actual = np.random.default_rng(1).gamma(2.0, 1.0, (steps, vms))
    issued = np.broadcast_to(issued, (vms, len(LEVELS)))
    model = Recalibration(LEVELS, 288)
    model.grow(vms)
    met = np.zeros((vms, len(LEVELS)))
    for i, row in enumerate(actual):
        if i >= steps // 2:
            met += row[:, None] <= model.apply(issued)
        model.update(issued, row)
    return met / (steps - steps // 2)


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.5])
def test_a_biased_forecast_becomes_nominal(ratio: float) -> None:
    met = _coverage(ratio * TRUE)
    raw = stats.gamma(2.0).cdf(ratio * TRUE)
    for level in (0.5, 0.9, 0.99):
        i = LEVELS.index(level)
        tolerance = 0.25 * (1 - level) + 0.004
        assert met[:, i].mean() == pytest.approx(level, abs=tolerance), (level, raw[i])
        assert (np.abs(met[:, i] - level) <= 3 * tolerance).all()


def test_each_vm_has_its_own_correction() -> None:
    ratio = np.array([0.7, 0.7, 1.0, 1.0, 1.5, 1.5])
    met = _coverage(ratio[:, None] * TRUE)
    i = LEVELS.index(0.9)
    assert (np.abs(met[:, i] - 0.9) < 0.05).all()


def test_a_new_vm_has_the_correction_of_the_fleet() -> None:
    model = Recalibration(LEVELS, 288)
    model.grow(40)
    generator = np.random.default_rng(2)
    issued = np.broadcast_to(0.7 * TRUE, (40, len(LEVELS)))
    for _ in range(3000):
        model.update(issued, generator.gamma(2.0, 1.0, 40))
    model.grow(41)
    young = model.apply(np.broadcast_to(0.7 * TRUE, (41, len(LEVELS))))[40]
    assert young[LEVELS.index(0.9)] == pytest.approx(TRUE[LEVELS.index(0.9)], rel=0.1)


def test_gaps_and_silence_change_nothing() -> None:
    model = Recalibration(LEVELS, 288)
    model.grow(2)
    before = model.coordinates()
    model.update(np.stack([TRUE, np.full(len(LEVELS), np.nan)]), np.array([np.nan, 3.0]))
    np.testing.assert_array_equal(model.coordinates(), before)
    assert np.isnan(model.apply(np.full((2, len(LEVELS)), np.nan))).all()


@given(
    arrays(np.float64, (3, len(LEVELS)), elements=st.floats(0, 1e12)),
    arrays(np.float64, (30, 3), elements=st.floats(0, 1e12)),
)
@settings(max_examples=60)
def test_quantiles_never_cross_and_are_never_negative(quantiles: FloatArray, actual: FloatArray) -> None:
    issued = np.sort(quantiles, axis=1)
    model = Recalibration(LEVELS, 24)
    model.grow(3)
    for row in actual:
        model.update(issued, row)
        got = model.apply(issued)
        assert np.isfinite(got).all()
        assert (np.diff(got, axis=1) >= 0).all()
        assert (got >= 0).all()


def test_coordinates_increase_strictly() -> None:
    model = Recalibration(LEVELS, 288)
    model.grow(3)
    for _ in range(5000):
        model.update(np.zeros((3, len(LEVELS))), np.array([0.0, 1.0, 1.0]))
    assert (np.diff(model.coordinates(), axis=1) > 0).all()


def test_tail_coordinates() -> None:
    levels = np.array([0.1, 0.5, 0.99])
    np.testing.assert_allclose(tail(logit(levels)), 1 - levels)
    quantiles = np.array([[1.0, 2.0, 5.0]])
    got = value_at(quantiles, logit(levels), np.array([[-9.0, *logit(levels), 99.0]]))
    slope = 3.0 / (logit(0.99) - logit(0.5))
    np.testing.assert_allclose(got[0], [1.0, 1.0, 2.0, 5.0, 5.0 + 1.5 * slope])


def test_beyond_levels_that_are_almost_the_same_there_is_no_cliff() -> None:
    got = value_at(np.array([[1.0, 2.0, 5.0]]), np.array([[0.0, 3.0, 3.0 + 1e-6]]), np.array([[3.0, 9.0]]))
    np.testing.assert_allclose(got[0], [2.0, 5.0 + 1.5 * 3.0 / 0.1], rtol=1e-6)


def test_a_bad_day_long_ago_does_not_raise_a_far_quantile_without_end() -> None:
    """All of the upper levels were the same then, and were exceeded together."""
    model, generator = Recalibration(LEVELS, 288), np.random.default_rng(1)
    model.grow(40)
    flat = np.broadcast_to(np.minimum(TRUE, TRUE[LEVELS.index(0.9)]), (40, len(LEVELS)))
    right = np.broadcast_to(TRUE, (40, len(LEVELS)))
    for issued in (*[flat] * 288, *[right] * 2_000):
        model.update(issued, generator.gamma(2.0, 1.0, 40))
    assert model.apply(right)[:, -1].max() < 3 * TRUE[-1]
