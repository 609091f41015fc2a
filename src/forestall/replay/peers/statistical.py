"""What the statsforecast peers share: the library itself, whom to fit and when, and what their knob does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from scipy.stats import norm

from forestall.model.errors import Unsupported
from forestall.model.samples import FloatArray, IntArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import LEVELS, error_scale, with_residual_quantile
from forestall.replay.peers.rolling import DAY_SECONDS, WEEK_SECONDS, moving_sd, steps_in

Fitted = TypeVar("Fitted")

BUSIEST = 40
"""Series that are fitted at a time; a model of each would take hours on a fleet."""

GAUSSIAN_LEVELS: tuple[float, ...] = (
    0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9999, 1 - 1e-5, 1 - 1e-7, 1 - 1e-10, 1 - 1e-15
)  # fmt: skip
"""Levels of the Gaussian variants, far out because demand has heavier tails than they believe."""


def models() -> Any:
    """Import ``statsforecast.models``.

    Raises
    ------
    Unsupported
        It is not installed.
    """
    try:
        return import_module("statsforecast.models")
    except ImportError as error:
        raise Unsupported(
            "this policy needs statsforecast, which is not installed: pip install 'forestall[forecast]'"
        ) from error


class StatisticalPeer:
    """What the statistical peers share: their names and knobs.

    Parameters
    ----------
    gaussian
        Whether errors are taken for normal, instead of as they were.
    """

    kind: str
    shipped = 0.95

    def __init__(self, gaussian: bool = False) -> None:
        self.name = f"{self.kind}_gaussian" if gaussian else self.kind
        self.gaussian = gaussian
        self.knobs = GAUSSIAN_LEVELS if gaussian else LEVELS


def with_quantile(block: SeriesBlock, forecast: FloatArray, gaussian: bool) -> Allocate:
    """Allocate a quantile around ``forecast`` (time, series): of its scaled errors, or of a normal curve."""
    if not gaussian:
        return with_residual_quantile(block, forecast, error_scale(block, forecast))
    in_force = block.delayed(forecast)
    sd = block.delayed(moving_sd(block.demand - in_force, steps_in(block.grid, WEEK_SECONDS)))
    return lambda level: np.maximum(in_force + float(norm.ppf(level)) * sd, 0.0)


def fit_weekly(
    block: SeriesBlock, window_seconds: int, fit: Callable[[FloatArray], Fitted | None]
) -> dict[int, dict[int, Fitted]]:
    """Fit the busiest series on the last ``window_seconds``, once a week, for the first time after two days.

    Parameters
    ----------
    fit
        From the window (time,) of a series, gaps filled by the last value, to a model; None: it has none.

    Returns
    -------
    dict
        For each row after which models were fitted, the model of each series that got one.
    """
    week, window = steps_in(block.grid, WEEK_SECONDS), steps_in(block.grid, window_seconds)
    first = 2 * steps_in(block.grid, DAY_SECONDS)
    out: dict[int, dict[int, Fitted]] = {}
    for row in range(first - 1, len(block.demand), week):
        recent = block.demand[max(0, row + 1 - window) : row + 1]
        out[row] = {}
        for series in busiest(recent):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fitted = fit(_without_gaps(recent[:, series]))
            if fitted is not None:
                out[row][int(series)] = fitted
    return out


def busiest(recent: FloatArray) -> IntArray:
    """Indices of the series of ``recent`` (time, series) with the largest means, half of it known, that vary."""
    known = ~np.isnan(recent)
    mean = np.where(known, recent, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    spread = np.where(known, recent, -np.inf).max(axis=0) - np.where(known, recent, np.inf).min(axis=0)
    eligible = np.flatnonzero((known.mean(axis=0) >= 0.5) & (spread > 0))
    return eligible[np.argsort(-mean[eligible], kind="stable")][:BUSIEST]


def _without_gaps(values: FloatArray) -> FloatArray:
    position = np.where(np.isnan(values), 0, np.arange(len(values)))
    held = values[np.maximum.accumulate(position)]
    return np.nan_to_num(held, nan=float(np.nanmean(values)))
