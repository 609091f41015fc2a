"""Loads a recorded trace into any behaviour store, so that Forestall starts with history."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from forestall.model.errors import BadInput
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, Trace
from forestall.ports.store import BehaviourStore, SampleBatch

_CELLS_PER_APPEND = 500_000


def load_history(trace: Trace, store: BehaviourStore) -> int:
    """Append every sample of a recorded trace to a store.

    A trace that is finer than the store's sampling step is averaged over each step (its limit is the last
    known one in the step); a coarser one leaves gaps. Loading the same trace twice changes nothing.

    Parameters
    ----------
    trace
        What was recorded. Its peaks inside intervals are not kept: a store has none.
    store
        Where to; its sampling step must be a multiple of the trace's, or the other way round.

    Returns
    -------
    int
        How many samples were appended.

    Raises
    ------
    BadInput
        The two steps do not fit together.
    StoreError
        The store cannot be written.
    """
    fine, coarse = trace.grid.step_seconds, store.step_seconds
    if fine % coarse and coarse % fine:
        raise BadInput(f"a step of {fine} s does not fit a store sampled every {coarse} s", path=trace.name)
    resources = trace.resources
    if not resources or not trace.vm_ids:
        return 0
    per_append = max(_CELLS_PER_APPEND // (len(trace.vm_ids) * len(resources)), 1)
    batches: list[SampleBatch] = []
    loaded = 0
    for first, last in _steps(trace, coarse):
        batch = _batch(trace, resources, first, last)
        batches.append(batch)
        loaded += int(np.count_nonzero(~np.isnan(batch.demand)))
        if len(batches) >= per_append:
            store.append(batches)
            batches = []
    store.append(batches)
    return loaded


def _steps(trace: Trace, coarse: int) -> list[tuple[int, int]]:
    """Half-open ranges of positions that fall into one step of the store each."""
    step = (trace.grid.start + np.arange(trace.grid.steps) * trace.grid.step_seconds) // coarse
    edges = [0, *(np.flatnonzero(np.diff(step)) + 1).tolist(), trace.grid.steps]
    return [(a, b) for a, b in pairwise(edges) if b > a]


def _batch(trace: Trace, resources: tuple[Resource, ...], first: int, last: int) -> SampleBatch:
    demand = np.stack([trace.demand[r][first:last] for r in resources], axis=-1)
    limit = np.stack([trace.limit[r][first:last] for r in resources], axis=-1)
    present = ~np.isnan(demand)
    mean = np.where(present, demand, 0.0).sum(axis=0) / np.where(present.any(axis=0), present.sum(axis=0), 1)
    mean[~present.any(axis=0)] = np.nan
    return SampleBatch(trace.grid.at(first), trace.vm_ids, resources, mean, _last(limit, present))


def _last(limit: FloatArray, present: BoolArray) -> FloatArray:
    """Last known limit along axis 0 where there is a sample; NaN where there is none."""
    known = present & ~np.isnan(limit)
    position = len(limit) - 1 - known[::-1].argmax(axis=0)
    last = np.take_along_axis(limit, position[None], axis=0)[0]
    return np.where(known.any(axis=0), last, np.nan)
