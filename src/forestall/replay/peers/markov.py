"""A Markov chain over binned usage, for many series at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import FloatArray, IntArray


@dataclass(frozen=True)
class Chain:
    """Expected value, some steps ahead, for each state.

    Attributes
    ----------
    low, width
        Arrays (series,): lower end of the first bin, width of a bin.
    expected
        Array (series, bin); NaN for a state that was never left.
    """

    low: FloatArray
    width: FloatArray
    expected: FloatArray

    def forecast(self, value: FloatArray) -> FloatArray:
        """Expected value (step, series) after each ``value`` (step, series); itself from an unknown state."""
        bins = self.expected.shape[1]
        state = _state(value.T, self.low, self.width, bins).T
        known = self.expected[np.arange(len(self.low))[None, :], state]
        return np.where(np.isnan(known), value, known)


def fit_chain(window: FloatArray, bins: int, ahead: int) -> Chain:
    """Count what followed each state ``ahead`` steps later in a gapless ``window`` (series, time).

    The transition over ``ahead`` steps is counted as such, which equals the power of the one-step matrix for
    a true chain and is better for anything else.
    """
    series = len(window)
    low, high = window.min(axis=1), window.max(axis=1)
    width = np.maximum((high - low) / bins, 1e-12 * np.maximum(np.abs(high), 1.0))
    state = _state(window[:, :-ahead], low, width, bins)
    flat = (state + bins * np.arange(series)[:, None]).ravel()
    total = np.bincount(flat, weights=window[:, ahead:].ravel(), minlength=series * bins)
    count = np.bincount(flat, minlength=series * bins)
    with np.errstate(invalid="ignore"):
        return Chain(low, width, np.asarray(total / count).reshape(series, bins))


def _state(value: FloatArray, low: FloatArray, width: FloatArray, bins: int) -> IntArray:
    position = np.nan_to_num((value - low[:, None]) / width[:, None])
    return np.clip(position, 0, bins - 1).astype(np.int64)
