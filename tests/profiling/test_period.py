"""Periods are found where there are some, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.profiling.period import autocorrelation, find_period

WEEK = 2016


@pytest.mark.parametrize("period", [12, 96, 288])
@pytest.mark.parametrize("shape", ["sine", "pulse"])
def test_a_known_period_is_found(period: int, shape: str) -> None:
    time = np.arange(WEEK)
    wave = np.sin(2 * np.pi * time / period) if shape == "sine" else 3.0 * (time % period < max(period // 8, 2))
    samples = wave[:, None] + np.random.default_rng(1).normal(5.0, 0.3, (WEEK, 5))
    samples[400:420] = np.nan
    found = find_period(samples.astype(np.float32))
    multiple = np.maximum(np.rint(found / period), 1)
    assert (np.abs(found - multiple * period) <= 0.02 * multiple * period).all(), found
    if shape == "sine":
        assert (multiple == 1).all()


@pytest.mark.parametrize("steps", [288, 577, 2016])
def test_noise_has_none(steps: int) -> None:
    noise = np.random.default_rng(2).gamma(2.0, 1.0, (steps, 100)).astype(np.float32)
    assert (find_period(noise) > 0).mean() <= 0.01


@pytest.mark.parametrize("steps", [48, 62, 625, 2016])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 1e10 / 3])
def test_a_constant_has_none(value: float, steps: int) -> None:
    samples = np.full((steps, 2), value, np.float32)
    samples[10:20, 1] = np.nan
    assert find_period(samples).tolist() == [0, 0]


def test_a_trend_has_none() -> None:
    assert find_period(np.arange(600, dtype=np.float32)[:, None]).tolist() == [0]


def test_too_short_or_all_gaps() -> None:
    assert find_period(np.ones((5, 2), np.float32)).tolist() == [0, 0]
    assert find_period(np.full((600, 1), np.nan, np.float32)).tolist() == [0]
    assert find_period(np.ones((600, 0), np.float32)).tolist() == []


@pytest.mark.parametrize("steps", [62, 100, 313])
def test_autocorrelation_is_not_circular(steps: int) -> None:
    samples = np.random.default_rng(4).normal(0, 1, (steps, 1))
    centred = samples[:, 0] - samples.mean()
    _, got = autocorrelation(samples.astype(np.float32))
    for lag in (0, 1, steps // 3):
        expected = (centred[lag:] * centred[: steps - lag]).mean() / (centred**2).mean()
        assert got[lag, 0] == pytest.approx(expected, abs=1e-5)
