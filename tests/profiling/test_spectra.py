"""Spectra: energies say on which periods and scales a VM varies."""

from __future__ import annotations

import numpy as np

from forestall.profiling.period import Periods, autocorrelation
from forestall.profiling.spectra import LEVELS, SPECTRAL, spectral_energies
from forestall.profiling.window import Window

STEP, DAY = 300, 288


def energies(values: np.ndarray) -> np.ndarray:
    samples = values.astype(np.float32)
    return spectral_energies(samples, autocorrelation(samples)[0], STEP)


def test_each_rhythm_has_its_band() -> None:
    time = np.arange(7 * DAY)
    hours = (24.0, 8.0, 2.0, 0.5)
    waves = np.stack([2 + np.sin(2 * np.pi * time / (12 * h)) for h in hours], axis=1)
    found = energies(waves)
    assert found.shape == (4, SPECTRAL)
    assert found[:, :4].argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert found[:, :4].max(axis=1).min() > 0.9
    np.testing.assert_allclose(found[:, :4].sum(axis=1), 1.0, rtol=1e-5)


def test_fast_movement_is_in_the_fine_wavelets_and_slow_in_the_coarse() -> None:
    generator = np.random.default_rng(0)
    noise, walk = generator.normal(0, 1, 1000), np.cumsum(generator.normal(0, 1, 1000))
    found = energies(np.stack([noise, walk], axis=1))[:, -LEVELS:]
    assert found[0, -1] > found[0, 0], "white noise: half of it in the finest scale"
    assert found[1, 0] > 5 * found[1, -1]


def test_size_and_constant_vms_do_not_matter() -> None:
    generator = np.random.default_rng(1)
    base = generator.gamma(2.0, 1.0, 600)
    found = energies(np.stack([base, 1e9 * base, np.full(600, 5.0), np.full(600, np.nan)], axis=1))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)
    assert not found[2:].any()


def test_they_are_renewed_with_the_periods_once_a_day() -> None:
    window, periods = Window(STEP, 1e-3), Periods()
    for i in range(2 * DAY):
        window.push(np.array([1.0 + (i % 12 == 0), 1.0]), np.full(2, 4.0))
        periods.observe(window)
    assert periods.energies.shape == (2, SPECTRAL)
    assert periods.energies[0, :4].argmax() == 3
    periods.keep(np.array([1]))
    assert not periods.energies.any()
