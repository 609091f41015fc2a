"""Linear forecasting recursions, run over many series at once with parameters that change now and then.

    y(t) = c + sum_i a_i y(t - i) + e(t) + sum_j b_j e(t - j)

covers ARIMA (with the differences multiplied out) and every linear exponential smoothing model, which is why both
peers of statsforecast share it: the library finds the parameters, this runs them. In a gap the forecast takes the
sample's place. Source: Box and Jenkins, Time Series Analysis, 1970; for smoothing as ARIMA: Hyndman et al.,
Forecasting with Exponential Smoothing, 2008, chapter 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forestall.model.samples import FloatArray

ORDER = 6
"""Lags that are kept of values and of errors."""


def _padded(coefficients: FloatArray) -> FloatArray:
    out = np.zeros(ORDER)
    out[: len(coefficients)] = coefficients
    return out


@dataclass(frozen=True)
class Recursion:
    """Parameters of one series: the constant, and coefficients of up to :data:`ORDER` lags."""

    constant: float
    of_values: FloatArray
    of_errors: FloatArray

    @classmethod
    def arima(cls, ar: FloatArray, ma: FloatArray, differences: int, mean: float = 0.0) -> Recursion:
        """Multiply out the differences; ``mean`` is that of the differenced series."""
        polynomial = np.concatenate([[1.0], -ar])
        for _ in range(differences):
            polynomial = np.convolve(polynomial, [1.0, -1.0])
        return cls(mean * (1.0 - float(ar.sum())), _padded(-polynomial[1:]), _padded(ma))


LAST_VALUE = Recursion.arima(np.zeros(0), np.zeros(0), differences=1)
"""The random walk: the forecast is the last value."""


def run_recursions(demand: FloatArray, lead: int, fitted: Mapping[int, Mapping[int, Recursion]]) -> FloatArray:
    """Forecasts (time, series) of interval i + lead, made after interval i.

    Parameters
    ----------
    demand
        Array (time, series), NaN in gaps.
    fitted
        For each row after which models were fitted: the recursion of each series that has one. All other
        series follow their last value.
    """
    steps, series = demand.shape
    constant, of_values, of_errors = _stack({}, series)
    values, errors = np.full((ORDER, series), np.nan), np.zeros((ORDER, series))
    out = np.empty_like(demand)
    for i in range(steps):
        expected = constant + (of_values * values).sum(axis=0) + (of_errors * errors).sum(axis=0)
        new = np.isnan(expected)
        values = np.where(new, demand[i], values)
        value = np.where(np.isnan(demand[i]), expected, demand[i])
        values = np.vstack([value, values[:-1]])
        errors = np.vstack([np.where(new, 0.0, value - expected), errors[:-1]])
        if i in fitted:
            constant, of_values, of_errors = _stack(fitted[i], series)
        out[i] = _ahead(constant, of_values, of_errors, values, errors, lead)
    return np.asarray(np.maximum(out, 0.0))


def _ahead(
    constant: FloatArray,
    of_values: FloatArray,
    of_errors: FloatArray,
    values: FloatArray,
    errors: FloatArray,
    lead: int,
) -> FloatArray:
    for _ in range(lead):
        expected = constant + (of_values * values).sum(axis=0) + (of_errors * errors).sum(axis=0)
        values = np.vstack([expected, values[:-1]])
        errors = np.vstack([np.zeros_like(expected), errors[:-1]])
    return np.asarray(values[0])


def _stack(fitted: Mapping[int, Recursion], series: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    each = [fitted.get(one, LAST_VALUE) for one in range(series)]
    return (
        np.array([r.constant for r in each]),
        np.stack([r.of_values for r in each], axis=1),
        np.stack([r.of_errors for r in each], axis=1),
    )
