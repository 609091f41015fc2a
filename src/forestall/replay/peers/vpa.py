"""``vpa``: the target of the Kubernetes Vertical Pod Autoscaler's recommender.

    target = 1.15 * P90 of a histogram that forgets with a half-life of 24 h

Of CPU it holds the samples, of memory the peaks of the last 8 days, where running out of memory counts as 1.2
times what was granted, at least 100 MiB more. The knob is the percentile.

Source: https://github.com/kubernetes/autoscaler (vertical-pod-autoscaler: ``logic/recommender.go``,
``model/aggregations_config.go``). Buckets start at 0.01 cores and 10 MB and grow by 5 %; disk and network, which
it does not know, are treated like CPU. The target is applied as soon as it moves, which in-place resizing allows
and which scores better than the updater's waiting for the bounds (P50, P95) or for 12 hours. Its floors for a pod
(25 mCPU, 250 MB) are left out, because they are about pods. "Out of memory" is demand above what the shipped
percentile grants, at every knob, so that a larger knob never allocates less.
"""

from __future__ import annotations

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.histogram import (
    LEVELS,
    Buckets,
    PercentileHistory,
    buckets_for,
    decaying_percentiles,
)
from forestall.replay.peers.rolling import DAY_SECONDS, steps_in

PERCENTILE = 0.9
MARGIN = 0.15
MEMORY_PEAKS = 8
OUT_OF_MEMORY_RATIO, OUT_OF_MEMORY_BYTES = 1.2, 100 * 2.0**20


class Vpa:
    """Decaying P90 of samples or of daily peaks."""

    name = "vpa"
    shipped = PERCENTILE
    knobs: tuple[float, ...] = LEVELS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Keep the histograms."""
        day = steps_in(block.grid, DAY_SECONDS)
        buckets = buckets_for(block.resource, cpu_first=0.01, memory_first=1e7)
        if block.resource is Resource.MEMORY:
            percentiles = _percentiles_of_peaks(block, buckets, day)
        else:
            percentiles = decaying_percentiles(block.demand, buckets, day)

        def allocate(level: float) -> FloatArray:
            return block.delayed(percentiles.at(level) * (1.0 + MARGIN))

        return allocate


def _percentiles_of_peaks(block: SeriesBlock, buckets: Buckets, day: int) -> PercentileHistory:
    """Percentiles of the peaks of today and of the seven days before it, raised by out-of-memory events."""
    steps, series = block.demand.shape
    history = PercentileHistory(LEVELS, buckets, (steps, series))
    shipped = LEVELS.index(PERCENTILE)
    ends = np.append(buckets.ends, np.nan)
    peaks = np.full((MEMORY_PEAKS, series), np.nan)
    for i in range(steps):
        if i and i % day == 0:
            peaks = np.vstack([np.full((1, series), np.nan), peaks[:-1]])
        used = block.demand[i]
        if i >= block.lead_steps:
            granted = ends[history.found[shipped, i - block.lead_steps]] * (1.0 + MARGIN)
            needed = np.maximum(granted * OUT_OF_MEMORY_RATIO, granted + OUT_OF_MEMORY_BYTES)
            used = np.where(used > granted, np.maximum(used, needed), used)
        peaks[0] = np.fmax(peaks[0], used)
        history.found[:, i] = _percentile_buckets(peaks, buckets)
    return history


def _percentile_buckets(peaks: FloatArray, buckets: Buckets) -> np.typing.NDArray[np.int64]:
    """Bucket (level, series) of each percentile of ``peaks`` (age in days, series); -1 without any."""
    order = np.argsort(peaks, axis=0)
    weight = np.where(np.isnan(peaks), 0.0, 0.5 ** np.arange(len(peaks))[:, None])
    cumulative = np.cumsum(np.take_along_axis(weight, order, axis=0), axis=0)
    ordered = np.take_along_axis(peaks, order, axis=0)
    found = np.stack([(cumulative >= level * cumulative[-1]).argmax(axis=0) for level in LEVELS])
    values = np.take_along_axis(ordered, found, axis=0)
    return np.where(np.isnan(values), -1, buckets.index(values))
