"""``crane``: the DSP predictor of Crane, its percentile predictor and current use, whichever is largest.

    history     the last 14 days, clipped outside P0.1-P99.9
    period      a day or else a week, by permutation test and autocorrelation hill (:mod:`.periodicity`)
    model       FFT of the whole cycles of the history; the strongest components (at least 3 or 50, and all above
                1 core) continued by one cycle, times 1.01, 1.10, 1.15 or 1.20: eight estimators
    choice      smallest mean absolute percentage error on the last cycle, what was missing counting ten times
    DSP         the largest value that the chosen model gives for the coming hour; nothing without a period
    percentile  1.15 * P99 of a histogram with a half-life of 24 h
    a(t + k) = max(DSP, percentile, y(t))

The effective autoscaler scales by the largest of predicted and current metrics, which is what is done here: DSP alone
does worse. The knob is the percentile. Models are made anew each day. Crane resamples to 1 min; here the trace's
interval stays, and the permutation test runs on hourly means.

Source: https://github.com/gocrane/crane (``pkg/prediction/dsp``, ``pkg/prediction/percentile``) and
https://gocrane.io/docs/core-concept/timeseriees-forecasting-algorithm-dsp/.
"""

from __future__ import annotations

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.histogram import LEVELS, buckets_for, decaying_percentiles
from forestall.replay.peers.periodicity import repeats_with
from forestall.replay.peers.rolling import DAY_SECONDS, HOUR_SECONDS, last_known, moving_max, steps_in

HISTORY_DAYS = 14
CLIP = (0.001, 0.999)
LEAST_COMPONENTS = (3, 50)
ESTIMATOR_MARGINS = (1.01, 1.10, 1.15, 1.20)
AMPLITUDE_CORES = 1.0
UNDER_ESTIMATION_WEIGHT = 10.0
PERCENTILE, PERCENTILE_MARGIN = 0.99, 0.15


class Crane:
    """Cycle by FFT, percentile and current use."""

    name = "crane"
    shipped = PERCENTILE
    knobs: tuple[float, ...] = LEVELS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Model each day, and keep the histograms."""
        day = steps_in(block.grid, DAY_SECONDS)
        buckets = buckets_for(block.resource, cpu_first=0.01, memory_first=1e7)
        percentiles = decaying_percentiles(block.demand, buckets, day)
        last = last_known(block.demand, block.grid)
        at_least = last.copy()
        for start in range(2 * day, len(last), day):
            stop = min(start + day, len(last))
            ahead = _model(block, last[max(0, start + 1 - HISTORY_DAYS * day) : start + 1], stop - start)
            at_least[start:stop] = np.fmax(at_least[start:stop], ahead)

        def allocate(level: float) -> FloatArray:
            return block.delayed(np.fmax(percentiles.at(level) * (1.0 + PERCENTILE_MARGIN), at_least))

        return allocate


def _model(block: SeriesBlock, history: FloatArray, rows: int) -> FloatArray:
    """What DSP decides (row, series) after the last row of ``history`` and the ``rows - 1`` after; NaN: no period."""
    hour, day = steps_in(block.grid, HOUR_SECONDS), steps_in(block.grid, DAY_SECONDS)
    window = _cleaned(history)
    whole_hours = window[:, window.shape[1] % hour :].reshape(len(window), -1, hour).mean(axis=2)
    generator = np.random.default_rng(0)
    needed = rows + block.lead_steps + hour
    out = np.full((rows, len(window)), np.nan)
    for days in (7, 1):
        chosen = np.flatnonzero(repeats_with(whole_hours, days * (day // hour), generator))
        if len(chosen):
            future = _best_estimate(window[chosen], days * day, needed, _threshold(block))
            peak = moving_max(future.T[::-1], hour)[::-1]
            out[:, chosen] = peak[block.lead_steps - 1 : block.lead_steps - 1 + rows]
    return out


def _cleaned(history: FloatArray) -> FloatArray:
    """Clipped (series, time), each gap filled by the mean of the series."""
    series = history.T
    known = np.where(np.isnan(series).all(axis=1, keepdims=True), 0.0, series)
    low, high = np.nanquantile(known, CLIP, axis=1)
    mean = np.nanmean(known, axis=1, keepdims=True)
    filled = np.where(np.isnan(known), mean, known)
    return np.asarray(np.clip(filled, low[:, None], high[:, None]))


def _threshold(block: SeriesBlock) -> float:
    """Amplitude from which a component is always kept: one core, or nothing that other resources have."""
    return AMPLITUDE_CORES if block.resource is Resource.CPU else np.inf


def _best_estimate(window: FloatArray, period: int, steps: int, threshold: float) -> FloatArray:
    """Continuation (series, steps) of ``window`` by the estimator that fits its last cycle best."""
    past, last = window[:, :-period], window[:, -period:]
    if past.shape[1] < period:
        past = window
    error, future = [], []
    for least in LEAST_COMPONENTS:
        judged, ahead = (_continued(w, period, least, threshold) for w in (past, window))
        for margin in ESTIMATOR_MARGINS:
            error.append(_asymmetric_error(judged * margin, last))
            future.append(np.take(ahead, np.arange(steps) % period, axis=1) * margin)
    return np.asarray(np.stack(future)[np.argmin(error, axis=0), np.arange(len(window))])


def _continued(window: FloatArray, period: int, least: int, threshold: float) -> FloatArray:
    """Next cycle (series, period) of the strongest components of the newest whole cycles."""
    cycles = window.shape[1] // period
    spectrum = np.fft.rfft(window[:, -cycles * period :], axis=1)
    amplitude = np.abs(spectrum) * 2.0 / (cycles * period)
    amplitude[:, 0] = np.inf
    rank = (-amplitude).argsort(axis=1).argsort(axis=1)
    kept = np.where((rank <= least) | (amplitude > threshold), spectrum, 0.0)
    return np.maximum(np.fft.irfft(kept, n=cycles * period, axis=1)[:, :period], 0.0)


def _asymmetric_error(predicted: FloatArray, actual: FloatArray) -> FloatArray:
    """Mean absolute percentage error (series,), what was missing counting more than what was too much."""
    scale = np.maximum(np.abs(actual), 1e-2 * np.abs(actual).mean(axis=1, keepdims=True) + 1e-12)
    off = (predicted - actual) / scale
    return np.asarray(np.where(off < 0, -UNDER_ESTIMATION_WEIGHT * off, off).mean(axis=1))
