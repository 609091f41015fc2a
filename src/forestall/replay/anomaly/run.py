"""Series scored as if they were happening."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from forestall.model.samples import FloatArray
from forestall.profiling.surprise import Surprise
from forestall.replay.anomaly.peers import DETECTORS
from forestall.replay.anomaly.series import SeriesSet
from forestall.replay.policy_names import FORESTALL, asked_policies

Tick = Callable[[str, int, int], None]


def policies(asked: str) -> tuple[str, ...]:
    """The detectors that ``--policy`` names.

    Raises
    ------
    WrongUse
        One of them is not known.
    """
    return asked_policies(asked, (FORESTALL, *DETECTORS))


def score(name: str, series: SeriesSet, seed: int, tick: Tick) -> FloatArray:
    """Scores (row,) in [0, 1] by one detector; each depends on its own row and earlier ones of its series."""
    if name == FORESTALL:
        return _forestall(series, tick)
    result = np.zeros(len(series.at))
    for i, rows in enumerate(series.rows):
        if len(rows):
            result[rows] = DETECTORS[name](series.at[rows], series.value[rows], seed + i)
        tick(name, 1, len(series.names))
    return result


def _forestall(series: SeriesSet, tick: Tick) -> FloatArray:
    """All series side by side, row by row: they are as VMs of one channel."""
    result = np.zeros(len(series.at))
    watch = Surprise([0.0])
    # Longest first, so that those that go on are always the first ones.
    order = sorted(range(len(series.names)), key=lambda i: -len(series.rows[i]))
    lengths = np.array([len(series.rows[i]) for i in order])
    steps = int(lengths.max(initial=0))
    alive: Sequence[int] = [int((lengths > k).sum()) for k in range(steps)]
    for k, going_on in enumerate(alive):
        if k and going_on < alive[k - 1]:
            watch.keep(np.arange(going_on))
        rows = np.array([series.rows[i][k] for i in order[:going_on]])
        result[rows] = watch.step(series.value[rows][:, None], series.at[rows]).score
        if (k + 1) % 256 == 0 or k + 1 == steps:
            tick(FORESTALL, k % 256 + 1, steps)
    return result
