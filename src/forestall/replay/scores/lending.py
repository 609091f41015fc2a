"""What lending idle cores was worth, and what it cost.

A decision window is violated when a VM, or the pool, used more at any moment in it than was reserved. Of the core time
that was truly idle, what was not reserved was lent: reserving too much lends less, reserving too little lends what
was not idle, which does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, FloatArray

TOLERANCE_CORES = 1e-9
LEAST_MOVE_CORES = 0.01


@dataclass(frozen=True)
class LendingScores:
    """Scores of what was granted.

    Attributes
    ----------
    decisions
        How many windows were scored.
    violation_share
        Share of windows that were violated; of several series, the mean over them.
    worst_violation_share
        The highest of any series.
    unmet_share
        Core time that was used above the reservation, over all that was used.
    lent_share
        Core time that was idle and lent, over all that was idle.
    mean_reserved_cores
        Cores reserved, of all series together.
    changes_per_s
        How often a reservation moved by more than a hundredth of a core.
    """

    decisions: int
    violation_share: float
    worst_violation_share: float
    unmet_share: float
    lent_share: float
    mean_reserved_cores: float
    changes_per_s: float


def violated(use: FloatArray, granted: FloatArray) -> BoolArray:
    """Whether each series used more than granted (decision, series); ``use`` (decision, window, series)."""
    return np.asarray(use.max(axis=1) > granted + TOLERANCE_CORES)


def lent_share(use: FloatArray, granted: FloatArray, cores: float) -> float:
    """Share of truly idle core time that was lent."""
    idle = np.maximum(cores - use.sum(axis=2), 0.0)
    lent = np.maximum(cores - np.nansum(granted, axis=1), 0.0)[:, None]
    return float(np.minimum(lent, idle).sum() / max(idle.sum(), 1e-12))


def score_lending(use: FloatArray, granted: FloatArray, cores: float, window_seconds: float) -> LendingScores:
    """Score what was granted.

    Parameters
    ----------
    use
        Array (decision, window, series), cores.
    granted
        Array (decision, series), cores; NaN where a series was not known yet, which counts for nothing but idle time.
    cores
        What the host has.
    window_seconds
        Length of a decision window.
    """
    decided = ~np.isnan(granted)
    seen = decided.any(axis=0)
    if not seen.any():
        nothing = float("nan")
        return LendingScores(0, nothing, nothing, nothing, nothing, nothing, nothing)
    by_series = (violated(use, granted).sum(axis=0) / np.maximum(decided.sum(axis=0), 1))[seen]
    unmet = np.nansum(np.maximum(use - granted[:, None], 0.0))
    used = np.where(decided[:, None], use, 0.0).sum()
    steps = np.abs(np.diff(granted, axis=0))
    moves = (steps > LEAST_MOVE_CORES).sum() / max((~np.isnan(steps)).sum(), 1)
    return LendingScores(
        decisions=len(use),
        violation_share=float(by_series.mean()),
        worst_violation_share=float(by_series.max()),
        unmet_share=float(unmet / max(used, 1e-12)),
        lent_share=lent_share(use, granted, cores),
        mean_reserved_cores=float(np.nansum(granted, axis=1).mean()),
        changes_per_s=float(moves / window_seconds),
    )
