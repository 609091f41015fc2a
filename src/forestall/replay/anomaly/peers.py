"""Anomaly detectors to compare with: one series at a time, strictly causal, higher is more unusual.

====================  ===========================================================================================
``half_space_trees``  Tan, Ting & Liu, "Fast Anomaly Detection for Streaming Data", IJCAI 2011; river's, as shipped
``robust_z``          distance from the median of the last 300 values, in median absolute deviations
``seasonal_residual`` distance from the value a day before, in standard deviations of such distances so far
``ewma``              distance from an exponentially weighted mean, in exponentially weighted deviations
``random``            a number at random: what a detector without knowledge scores
====================  ===========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from forestall.model.samples import FloatArray, IntArray

Detector = Callable[[IntArray, FloatArray, int], FloatArray]
"""From instants (row,), values (row,) and a seed to scores (row,) in [0, 1]."""
WINDOW = 300
EWMA_RATE = 0.05
DAY_SECONDS = 86_400
MAD_TO_DEVIATION = 1.4826


def _half_space_trees(at: IntArray, value: FloatArray, seed: int) -> FloatArray:
    from river import anomaly, compose, preprocessing

    model = compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=seed))
    result = np.zeros(len(value))
    for i, x in enumerate(value.tolist()):
        if x == x:
            result[i] = model.score_one({"value": x})
            model.learn_one({"value": x})
    return np.clip(result, 0.0, 1.0)


def _robust_z(at: IntArray, value: FloatArray, seed: int) -> FloatArray:
    past = pd.Series(value).shift().rolling(WINDOW, min_periods=10)
    median = past.median().to_numpy()
    mad = past.apply(lambda x: np.nanmedian(np.abs(x - np.nanmedian(x))), raw=True).to_numpy()
    return _bounded(np.abs(value - median), MAD_TO_DEVIATION * mad)


def _seasonal_residual(at: IntArray, value: FloatArray, seed: int) -> FloatArray:
    before = np.searchsorted(at, at - DAY_SECONDS, side="right") - 1
    distance = np.where(before >= 0, np.abs(value - value[np.maximum(before, 0)]), np.nan)
    return _bounded(distance, pd.Series(distance**2).expanding().mean().shift().to_numpy() ** 0.5)


def _ewma(at: IntArray, value: FloatArray, seed: int) -> FloatArray:
    series = pd.Series(value)
    distance = (series - series.ewm(alpha=EWMA_RATE).mean().shift()).abs()
    return _bounded(distance.to_numpy(), (distance**2).ewm(alpha=EWMA_RATE).mean().shift().to_numpy() ** 0.5)


def _random(at: IntArray, value: FloatArray, seed: int) -> FloatArray:
    return np.random.default_rng(seed).random(len(value))


def _bounded(distance: FloatArray, unit: FloatArray) -> FloatArray:
    """``distance / unit``, brought into [0, 1] without changing its order."""
    z = np.nan_to_num(distance) / (np.nan_to_num(unit) + 1e-9)
    return np.asarray(z / (1.0 + z))


DETECTORS: dict[str, Detector] = {
    "half_space_trees": _half_space_trees,
    "robust_z": _robust_z,
    "seasonal_residual": _seasonal_residual,
    "ewma": _ewma,
    "random": _random,
}
"""Every peer by its name."""
