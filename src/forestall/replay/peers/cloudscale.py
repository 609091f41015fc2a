"""``cloudscale``: PRESS's predictor with CloudScale's padding.

    forecast   mean cycle of the dominating FFT period of the last week, if its cycles correlate by .85 and their means
               lie within 5 %; else the mean of a Markov chain over 40 equal bins
    padding    the larger of
               burst      high-frequency part (upper 80 % of the spectrum) of the last 100 samples: its maximum
                          where more than half of it is positive, else its 80th percentile
               remedial   weighted mean of recent under-estimation
    a(t + k) = forecast(t + k) + m * padding(t),   m = 1

The knob is m. Signature and chain are learned anew each hour. CloudScale's third part, raising a cap at once
while it is hit, works within seconds and has no counterpart in intervals of minutes.

Source: Gong, Gu, Wilkes, PRESS, CNSM 2010, https://doi.org/10.1109/CNSM.2010.5691343; Shen, Subbiah, Gu, Wilkes,
CloudScale, SoCC 2011, sections 2.2-2.3, https://doi.org/10.1145/2038916.2038921.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import with_deviations
from forestall.replay.peers.markov import fit_chain
from forestall.replay.peers.rolling import (
    HOUR_SECONDS,
    WEEK_SECONDS,
    decaying_mean,
    last_known,
    steps_in,
)
from forestall.replay.peers.signature import find_signature

BINS = 40
LEAST_CORRELATION, MEAN_RATIO = 0.85, 0.05
BURST_SAMPLES = 100
BURST_SPECTRUM_RATIO, BURST_DENSITY, BURST_PERCENTILE = 0.8, 0.5, 80
REMEDIAL_SECONDS = HOUR_SECONDS
_CHUNK = 64
"""Rows whose windows are spread out in memory at a time."""


class CloudScale:
    """Signature or chain, padded."""

    name = "cloudscale"
    shipped = 1.0
    knobs: tuple[float, ...] = (-0.2, 0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 12.0, 25.0)

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Forecast, and take the larger of both paddings."""
        last = last_known(block.demand, block.grid)
        filled = _filled(last)
        forecast = np.where(np.isnan(last), np.nan, _forecast(block, filled))
        under = np.maximum(block.demand - block.delayed(forecast), 0.0)
        remedial = decaying_mean(under, steps_in(block.grid, REMEDIAL_SECONDS))
        return with_deviations(block, forecast, np.fmax(_burst(filled), np.nan_to_num(remedial)))


def _filled(last: FloatArray) -> FloatArray:
    """Array (series, time) without any gap: the last value, 0 before the first."""
    known = np.where(np.isnan(last), 0, np.arange(len(last))[:, None])
    held = np.take_along_axis(last, np.maximum.accumulate(known, axis=0), axis=0)
    return np.ascontiguousarray(np.nan_to_num(held).T)


def _forecast(block: SeriesBlock, filled: FloatArray) -> FloatArray:
    """Forecast (time, series) of interval i + lead after interval i."""
    every, week = steps_in(block.grid, HOUR_SECONDS), steps_in(block.grid, WEEK_SECONDS)
    out = filled.T.copy()
    steps, lead = len(out), block.lead_steps
    for start in range(2 * every + lead, steps, every):
        first = max(0, start + 1 - week)
        window = filled[:, first : start + 1]
        rows = np.arange(start, min(start + every, steps))
        signature = find_signature(window, LEAST_CORRELATION, MEAN_RATIO)
        chained = fit_chain(window, BINS, lead).forecast(filled[:, rows].T)
        out[rows] = np.where(signature.repeats, signature.at(rows + lead - first), chained)
    return out


def _burst(filled: FloatArray) -> FloatArray:
    """Burst padding (time, series) from the last samples before each row."""
    series, steps = filled.shape
    high_pass = _high_pass(BURST_SAMPLES)
    padded = np.concatenate([np.repeat(filled[:, :1], BURST_SAMPLES - 1, axis=1), filled], axis=1)
    windows = sliding_window_view(padded, BURST_SAMPLES, axis=1)
    out = np.empty((steps, series))
    for start in range(0, steps, _CHUNK):
        burst = windows[:, start : start + _CHUNK] @ high_pass
        dense = (burst > 0).mean(axis=2) > BURST_DENSITY
        usual = np.percentile(burst, BURST_PERCENTILE, axis=2)
        out[start : start + _CHUNK] = np.maximum(np.where(dense, burst.max(axis=2), usual), 0.0).T
    return out


def _high_pass(samples: int) -> FloatArray:
    """Matrix (sample, sample) that keeps the upper part of the spectrum of a row vector."""
    spectrum = np.fft.rfft(np.eye(samples), axis=1)
    spectrum[:, : round((1.0 - BURST_SPECTRUM_RATIO) * spectrum.shape[1])] = 0.0
    return np.asarray(np.fft.irfft(spectrum, n=samples, axis=1))
