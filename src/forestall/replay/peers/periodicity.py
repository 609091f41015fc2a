"""Whether a series repeats daily or weekly: a permutation test of its spectrum, and a hill of its autocorrelation.

The power at a candidate's frequency must exceed the largest power that shuffled copies of the series reach, and
the autocorrelation must rise towards the candidate's lag and fall after it. Source: Vlachos, Yu, Castelli, On
periodicity detection and structural periodic similarity, SDM 2005, https://doi.org/10.1137/1.9781611972757.40
(AUTOPERIOD).
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, FloatArray

PERMUTATIONS = 100
CONFIDENCE = 0.99


def repeats_with(window: FloatArray, period: int, generator: np.random.Generator) -> BoolArray:
    """Whether each series of a gapless ``window`` (series, time) repeats every ``period`` steps.

    The window is cut to whole periods, the newest ones; with fewer than two the answer is no.
    """
    cycles = window.shape[1] // period
    if cycles < 2:
        return np.zeros(len(window), dtype=np.bool_)
    whole = window[:, -cycles * period :]
    centred = whole - whole.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, axis=1)) ** 2
    threshold = _permuted_power(centred, generator)
    return np.asarray((power[:, cycles] > threshold) & _on_hill(power, period, centred.shape[1]))


def _permuted_power(centred: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Largest power (series,) that chance reaches, from shuffles of the time axis."""
    largest = [
        (np.abs(np.fft.rfft(centred[:, generator.permutation(centred.shape[1])], axis=1)) ** 2).max(axis=1)
        for _ in range(PERMUTATIONS)
    ]
    return np.asarray(np.quantile(np.stack(largest), CONFIDENCE, axis=0))


def _on_hill(power: FloatArray, period: int, steps: int) -> BoolArray:
    """Whether the (circular) autocorrelation has a hill with its top near lag ``period``."""
    correlation = np.fft.irfft(power, n=steps, axis=1)
    reach = max(1, period // 4)
    left = correlation[:, period - reach : period + 1]
    right = correlation[:, period : period + reach + 1]
    slope = np.linspace(-1.0, 1.0, reach + 1)
    return np.asarray((left @ slope > 0) & (right @ slope < 0) & (correlation[:, period] > 0))
