"""Residual quantiles: right within a bin, forgetting, and borrowed from the fleet by the young."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.learning.residuals import BINS, EDGES, ResidualQuantiles, bin_of

LEVELS = np.array([0.05, 0.5, 0.9, 0.99])


def _learned(residuals: np.ndarray, half_life: float = 1e9, prior: float = 0.0) -> ResidualQuantiles:
    model = ResidualQuantiles(1, half_life, prior)
    model.grow(residuals.shape[1])
    for row in residuals:
        model.update(0, row)
        model.advance()
    return model


@given(st.floats(-1e6, 1e6))
@settings(max_examples=100)
def test_every_residual_has_its_bin(residual: float) -> None:
    index = int(bin_of(np.array([residual]))[0])
    assert 0 <= index < BINS
    if EDGES[0] < residual < EDGES[-1]:
        assert EDGES[index] - 1e-9 <= residual <= EDGES[index + 1] + 1e-9


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_quantiles_are_those_of_the_sample_within_a_bin(kind: str) -> None:
    generator = np.random.default_rng(5)
    shape = (3000, 2)
    residuals = generator.normal(0, 0.3, shape) if kind == "normal" else generator.gamma(0.7, 0.5, shape) - 0.2
    got = _learned(residuals).quantiles(LEVELS)[0]
    expected = np.quantile(residuals, LEVELS, axis=0).T
    width = EDGES[bin_of(expected) + 1] - EDGES[bin_of(expected)]
    assert (np.abs(got - expected) <= width).all()


def test_the_old_is_forgotten_also_over_many_half_lives() -> None:
    residuals = np.concatenate([np.full((500, 1), -1.0), np.full((2000, 1), 1.0)])
    got = _learned(residuals, half_life=20.0).quantiles(LEVELS)[0, 0]
    assert np.isfinite(got).all()
    assert (got > 0.7).all()


def test_half_of_the_weight_lies_within_a_half_life() -> None:
    residuals = np.concatenate([np.full((5000, 1), -1.0), np.full((100, 1), 1.0)])
    model = _learned(residuals, half_life=100.0)
    assert model.quantiles(np.array([0.48]))[0, 0, 0] < 0
    assert model.quantiles(np.array([0.52]))[0, 0, 0] > 0


def test_a_cold_vm_has_the_quantiles_of_the_fleet() -> None:
    residuals = np.random.default_rng(6).normal(0, 1, (500, 3))
    residuals[:, 2] = np.nan
    model = _learned(residuals, prior=60.0)
    got = model.quantiles(LEVELS)[0]
    pooled = np.quantile(residuals[:, :2], LEVELS)
    np.testing.assert_allclose(got[2], pooled, rtol=0.35, atol=0.05)
    model.grow(4)
    np.testing.assert_allclose(model.quantiles(LEVELS)[0, 3], got[2], rtol=1e-5)


def test_the_prior_fades_as_a_vm_shows_itself() -> None:
    residuals = np.column_stack([np.full(1000, -1.0), np.full(1000, 1.0)])
    residuals[:990, 1] = np.nan
    young = _learned(residuals[:995], prior=60.0).quantiles(np.array([0.5]))[0, 1, 0]
    assert young < 0
    residuals[:, 1] = 1.0
    assert _learned(residuals, prior=60.0).quantiles(np.array([0.5]))[0, 1, 0] > 0


def test_nothing_is_said_before_anything_is_known() -> None:
    model = ResidualQuantiles(2, 100.0)
    model.grow(3)
    model.update(0, np.array([0.1, np.nan, np.nan]))
    got = model.quantiles(LEVELS)
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1]).all()
