"""What the recurrent model sees of a VM at one step.

Of the resource that it forecasts: the newest sample, highest and mean of the last minutes to a day, hours and days ago
at the time that comes next, and the quantiles of the week, all divided by the VM's own scale. Of each other resource
of the VM: the newest sample, highest and mean of the last minutes and of the last hour, and a day before what comes
next. And what the VM is like: its segment, its spectrum, what its companions have just done. They are cheap: each is a
row of a window or a reduction over some, or is renewed once a day; the network keeps the rest in its state. And which
applications run in the VM, where a policy says so, and how many people use it, where that is told. Logarithms and
clipping are part of the network's graphs.

A resource that is not observed, and one of which a VM has no sample yet, is all zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from forestall.learning.past import Past
from forestall.model.applications import CATEGORIES
from forestall.model.resources import Resource
from forestall.model.samples import Float32Array, FloatArray
from forestall.profiling.activity import ACTIVE
from forestall.profiling.companions import ACCOMPANIED
from forestall.profiling.segments import SEGMENTED
from forestall.profiling.spectra import SPECTRAL
from forestall.profiling.window import Window, highest

RESOURCES = tuple(Resource)
SEGMENTS, CORRELATION = "segments", "correlation"
SPAN_HOURS = (0.25, 1, 6)
BESIDE_HOURS = (0.25, 1)
LAG_HOURS = (1, 2, 3, 4, 8, 12)
DAYS = 7
NEIGHBOURS = 2
AHEAD_HOURS = 1
AHEAD_DAYS = (0, 1, 6)
"""Of the days before: the last, the one before it, a week ago."""
OWN_RATIOS, BESIDE_RATIOS = 29, 6
RATIOS = OWN_RATIOS + BESIDE_RATIOS * (len(RESOURCES) - 1)
PLAIN = 7
PROFILE = SEGMENTED + SPECTRAL + ACCOMPANIED + 2
CALENDAR = 6
RUNTIME = len(CATEGORIES) + ACTIVE
INPUTS = RATIOS + PLAIN + PROFILE + RUNTIME + CALENDAR
MOST_RATIO = 50.0
LEAST_LIMIT_RATIO, MOST_LIMIT_RATIO = 0.1, 1e4
MOST_FILL = 2.0
DAY_SECONDS = 86_400.0
HOUR_SECONDS = 3_600.0
MONDAY_SECONDS = 4 * DAY_SECONDS
"""The first Monday, in seconds UTC."""


def model_inputs(
    past: Past,
    beside: Mapping[Resource, Window],
    now: int,
    *,
    calendar: bool = True,
    without: frozenset[str] = frozenset(),
) -> Float32Array:
    """Inputs of the network.

    Parameters
    ----------
    past
        What is known of the resource that is forecast.
    beside
        Windows of other resources of the same VMs; one may know of fewer VMs.
    now
        Start of the newest interval, seconds.
    calendar
        Whether instants are real dates; if not, the calendar is all zeros.
    without
        What is left out, to see what it is worth: :data:`SEGMENTS`, :data:`CORRELATION`.

    Returns
    -------
    Float32Array
        Array (vm, input): ratios of the resource, ratios of the others in their order, plain figures, what the VM is
        like, the applications that run in it, its users, the calendar.
    """
    vms = past.window.vms
    result = np.zeros((INPUTS, vms), np.float32)
    result[:OWN_RATIOS], result[RATIOS : RATIOS + PLAIN] = _of_resource(past)
    result[RATIOS + PLAIN : RATIOS + PLAIN + PROFILE] = _profile(past, without)
    others = (resource for resource in RESOURCES if resource != past.resource)
    for k, resource in enumerate(others):
        if window := beside.get(resource):
            n, first = min(vms, window.vms), OWN_RATIOS + k * BESIDE_RATIOS
            result[first : first + BESIDE_RATIOS, :n] = _beside(window)[:, :n]
    tags = past.tags[:vms]
    runtime = result[-CALENDAR - RUNTIME : -CALENDAR]
    runtime[: len(CATEGORIES), : len(tags)] = tags.T
    runtime[len(CATEGORIES) :] = past.activity.figures(vms)
    if calendar:
        result[-CALENDAR:] = _calendar(now + past.window.step_seconds)[:, None]
    return np.ascontiguousarray(result.T)


def _calendar(at: int) -> Float32Array:
    """Hand of the day's, the hour's and the week's clock at an instant."""
    shares = [at / DAY_SECONDS % 1.0, at / HOUR_SECONDS % 1.0, (at - MONDAY_SECONDS) / (7 * DAY_SECONDS) % 1.0]
    turns = 2 * np.pi * np.array(shares)
    return np.concatenate([np.sin(turns), np.cos(turns)]).astype(np.float32)


def _of_resource(past: Past) -> tuple[Float32Array, Float32Array]:
    """Ratios (ratio, vm) and plain figures (figure, vm) of the resource that is forecast."""
    window = past.window
    scale = window.scale().astype(np.float32)
    recent, (hours, days) = _recent(window), _ago(window)
    ratios, missing = _ratios([*recent, *hours, *days, *past.week.level], window, scale)
    # Whether there is a newest sample, an hour of past, and a day.
    flags = missing[[0, len(recent), len(recent) + len(hours)]].astype(np.float32)
    plain = np.concatenate([_plain(window, scale), flags])
    return ratios, np.where(window.seen > 0, plain, np.float32(0))


def _profile(past: Past, without: frozenset[str]) -> Float32Array:
    """Segment, spectrum, companions, and one period before what comes next (figure, vm); 0 where nothing is known."""
    window, periods = past.window, past.periods
    vms = window.vms
    segment = np.zeros((SEGMENTED, vms)) if SEGMENTS in without else past.segments.figures(window)
    moved = np.zeros((ACCOMPANIED, vms)) if CORRELATION in without else past.companions.figures(window)
    there = (periods.period > 0) & (window.seen > 0)
    before = window.lagged(np.maximum(periods.period - 1, 0)) / window.scale()
    step = np.where(there & np.isfinite(before), np.minimum(before, MOST_RATIO), 0.0)
    length = np.log1p(periods.period / window.hour) / 3.0
    figures = np.concatenate([segment, moved, [step, np.where(there, length, 0.0)]])
    return np.concatenate([figures, periods.energies.T]).astype(np.float32)


def _beside(window: Window) -> Float32Array:
    """Ratios (ratio, vm) of another resource."""
    spans = _spans(window, BESIDE_HOURS)
    return _ratios([window.at_lag(0), *spans, window.at_lag(window.day - 1)], window, window.scale())[0]


def _ratios(
    columns: list[Float32Array | FloatArray], window: Window, scale: Float32Array | FloatArray
) -> tuple[Float32Array, NDArray[np.bool_]]:
    """Rows (ratio, vm) in units of the scale, and which are missing: the last sample stands in, if there is any."""
    unit = scale.astype(np.float32)
    ratios = np.clip(np.stack(columns).astype(np.float32) / unit, 0.0, np.float32(MOST_RATIO))
    missing = np.isnan(ratios)
    last = np.clip(np.nan_to_num(window.last.astype(np.float32) / unit), 0.0, np.float32(MOST_RATIO))
    return np.where(window.seen > 0, np.where(missing, last, ratios), np.float32(0)), missing


def _recent(window: Window) -> list[Float32Array | FloatArray]:
    return [window.at_lag(0), *_spans(window, SPAN_HOURS), window.peak(24), window.moments(24)[0]]


def _spans(window: Window, hours: tuple[float, ...]) -> list[Float32Array]:
    """Highest and mean of the last hours."""
    steps = [max(1, round(h * HOUR_SECONDS / window.step_seconds)) for h in hours]
    tail = window.tail(max(steps))
    return [row for span in steps for row in (highest(tail[-span:]), _mean(tail[-span:]))]


def _ago(window: Window) -> tuple[list[Float32Array], list[Float32Array]]:
    """The interval that comes next, hours ago; and days ago, with its surroundings and the hour that followed."""
    days, hours = window.day * np.arange(1, DAYS + 1) - 1, window.hour * np.arange(1, 25) - 1
    near = np.maximum(days + np.arange(-NEIGHBOURS, NEIGHBOURS + 1)[:, None], 0)
    ahead = np.maximum(days[list(AHEAD_DAYS)] - np.arange(AHEAD_HOURS * window.hour)[:, None], 0)
    parts = days, hours, near.ravel(), ahead.ravel()
    rows = np.split(window.at_lags(np.concatenate(parts)), np.cumsum([len(part) for part in parts])[:-1])
    by_day = np.fmax.reduce(rows[2].reshape(*near.shape, window.vms), axis=0)
    coming = np.fmax.reduce(rows[3].reshape(*ahead.shape, window.vms), axis=0)
    since = [
        rows[0][0], rows[0][-1], _mean(rows[0]), highest(rows[0]), _mean(rows[1]), highest(rows[1]),
        by_day[0], highest(by_day), _mean(by_day), coming[0], highest(coming),
    ]  # fmt: skip
    return list(rows[1][[h - 1 for h in LAG_HOURS]]), since


def _mean(rows: Float32Array) -> Float32Array:
    """Mean of each column over ``rows`` (row, vm), NaN left out; NaN where there is nothing else."""
    known = rows == rows
    count = known.sum(axis=0, dtype=np.float32)
    mean: Float32Array = np.where(known, rows, np.float32(0)).sum(axis=0) / np.where(
        count > 0, count, np.float32(np.nan)
    )
    return mean


def _plain(window: Window, scale: Float32Array) -> Float32Array:
    mean, deviation = window.moments(window.blocks)
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.log(np.clip(window.limit / scale, LEAST_LIMIT_RATIO, MOST_LIMIT_RATIO))
        fill = np.clip(window.last / window.limit, 0.0, MOST_FILL)
        variation = np.minimum(deviation / np.maximum(mean, window.floor), MOST_RATIO)
        size = np.log(scale / window.floor) / 10.0
    figures: Float32Array = np.nan_to_num(np.stack([room, fill, variation, size])).astype(np.float32)
    return figures
