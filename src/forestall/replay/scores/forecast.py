"""How good forecasts are: pinball loss, MASE, coverage, width, error of the peak; for each kind of VM.

Pinball loss of a quantile q at level τ against y: max(τ(y − q), (τ − 1)(y − q)) (Koenker & Bassett, 1978).
MASE: mean absolute error over that of the seasonal naive forecast (Hyndman & Koehler, 2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forestall.model.samples import FloatArray

PINBALL_LEVELS: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99)
"""Levels at which pinball loss is reported."""


@dataclass(frozen=True)
class ForecastScores:
    """Scores of the forecasts of one target for one kind of VM. NaN where nothing could be scored.

    Attributes
    ----------
    count
        Pairs of forecast and actual.
    pinball
        (level, mean loss in the resource's unit).
    relative_pinball
        (level, loss over that of the seasonal naive forecast); below 1 is better than naive.
    mase
        Mean over VMs of the median's absolute error over the seasonal naive one's, on the same intervals.
    coverage
        (level, share of actuals at or below the quantile); equal to the level when calibrated.
    width
        (level, mean distance of the quantile from the median, over mean demand).
    """

    count: int
    pinball: tuple[tuple[float, float], ...]
    relative_pinball: tuple[tuple[float, float], ...]
    mase: float
    coverage: tuple[tuple[float, float], ...]
    width: tuple[tuple[float, float], ...]


def pinball_loss(actual: FloatArray, quantile: FloatArray, level: float) -> FloatArray:
    """Pinball loss, element by element."""
    error = actual - quantile
    return np.maximum(level * error, (level - 1.0) * error)


def score_forecast(
    actual: FloatArray, quantiles: FloatArray, levels: Sequence[float], naive: FloatArray
) -> ForecastScores:
    """Score the forecasts of one target.

    Parameters
    ----------
    actual
        Array (time, vm): what came true; NaN where unobserved.
    quantiles
        Array (time, vm, level): the forecast made for that row.
    levels
        Levels of the last axis; must contain 0.5.
    naive
        The seasonal naive forecast: a point (time, vm), or quantiles (time, vm, level). Only rows that both
        forecasts cover are compared.
    """
    reference = naive[..., None] if naive.ndim == 2 else naive
    reference = np.broadcast_to(reference, quantiles.shape)
    scored = ~(np.isnan(actual) | np.isnan(quantiles).any(axis=-1))
    median = list(levels).index(0.5)
    loss, relative = _losses(actual, quantiles, reference, levels, scored)
    mean = _mean(actual, scored)
    return ForecastScores(
        count=int(scored.sum()),
        pinball=loss,
        relative_pinball=relative,
        mase=_mase(actual, quantiles[..., median], reference[..., median]),
        coverage=tuple((t, _mean(actual <= quantiles[..., i], scored)) for i, t in enumerate(levels)),
        width=tuple(
            (t, _over(_mean(np.abs(quantiles[..., i] - quantiles[..., median]), scored), mean))
            for i, t in enumerate(levels)
        ),
    )


def score_groups(
    actual: FloatArray,
    quantiles: FloatArray,
    levels: Sequence[float],
    naive: FloatArray,
    groups: NDArray[np.str_],
) -> Mapping[str, ForecastScores]:
    """Score all VMs together (``all``) and each kind of VM (vm,) apart, in the order of their names."""
    scores = {"all": score_forecast(actual, quantiles, levels, naive)}
    for group in sorted(set(groups.tolist())):
        mine = groups == group
        scores[group] = score_forecast(actual[:, mine], quantiles[:, mine], levels, naive[:, mine])
    return scores


def window_peak(values: FloatArray, steps: int) -> FloatArray:
    """Peak (time, vm) of the ``steps`` rows after each row; NaN where one is unobserved or past the end."""
    peak = np.full(values.shape, np.nan)
    whole = len(values) - steps
    if whole > 0:
        windows = np.lib.stride_tricks.sliding_window_view(values[1:], steps, axis=0)
        peak[:whole] = windows[:whole].max(axis=-1)
    return peak


def peak_error(actual_peak: FloatArray, predicted_peak: FloatArray) -> tuple[float, float]:
    """Mean error and mean absolute error of a predicted peak (time, vm), over the mean actual peak."""
    scored = ~(np.isnan(actual_peak) | np.isnan(predicted_peak))
    error, mean = predicted_peak - actual_peak, _mean(actual_peak, scored)
    return _over(_mean(error, scored), mean), _over(_mean(np.abs(error), scored), mean)


Pairs = tuple[tuple[float, float], ...]


def _losses(
    actual: FloatArray,
    quantiles: FloatArray,
    reference: FloatArray,
    levels: Sequence[float],
    scored: NDArray[np.bool_],
) -> tuple[Pairs, Pairs]:
    """Mean pinball losses, and the same over the reference's where both exist."""
    loss, relative = [], []
    for i, level in enumerate(levels):
        if level not in PINBALL_LEVELS:
            continue
        mine = pinball_loss(actual, quantiles[..., i], level)
        other = pinball_loss(actual, reference[..., i], level)
        both = scored & ~np.isnan(other)
        loss.append((level, _mean(mine, scored)))
        relative.append((level, _over(_mean(mine, both), _mean(other, both))))
    return tuple(loss), tuple(relative)


def _mase(actual: FloatArray, median: FloatArray, naive: FloatArray) -> float:
    both = ~(np.isnan(actual) | np.isnan(median) | np.isnan(naive))
    error = np.where(both, np.abs(actual - median), 0.0).sum(axis=0)
    scale = np.where(both, np.abs(actual - naive), 0.0).sum(axis=0)
    defined = scale > 0
    return float((error[defined] / scale[defined]).mean()) if defined.any() else float("nan")


def _mean(values: NDArray[np.float64] | NDArray[np.bool_], where: NDArray[np.bool_]) -> float:
    count = int(where.sum())
    return float(np.sum(values, where=where, dtype=np.float64) / count) if count else float("nan")


def _over(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
