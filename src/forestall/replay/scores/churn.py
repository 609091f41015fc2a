"""Churn: how often an allocation is moved, and how often a move is soon taken back."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray

CHANGE_RATIO = 0.01
"""A move by more than this share of what was in force is a change."""
REVERSAL_SECONDS = 600
"""An up and a down (or a down and an up) within this time is a reversal."""


def count_moves(amount: FloatArray, limit: FloatArray, step_seconds: float) -> tuple[IntArray, IntArray]:
    """Count the changes and reversals of each VM.

    An interval is compared with the VM's last observed one. A move that comes with a move of the limit is
    its owner's doing (resized, switched off or on), and does not count.

    Parameters
    ----------
    amount, limit
        Arrays (time, vm), what is in force and the limit; NaN in intervals that were not observed.

    Returns
    -------
    changes, reversals
        Arrays (vm,).
    """
    before, limit_before = _last_known(amount), _last_known(limit)
    with np.errstate(invalid="ignore"):
        move = amount[1:] - before[:-1]
        counts = (np.abs(move) > CHANGE_RATIO * np.abs(before[:-1])) & (limit[1:] == limit_before[:-1])
    up, down = counts & (move > 0), counts & (move < 0)
    within = int(REVERSAL_SECONDS // step_seconds)
    undone = (up & _recent(down, within)) | (down & _recent(up, within))
    return counts.sum(axis=0), undone.sum(axis=0)


def _last_known(values: FloatArray) -> FloatArray:
    """Fill gaps forward; NaN before the first value."""
    known = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(known, axis=0), axis=0)


def _recent(event: BoolArray, within: int) -> BoolArray:
    """Whether the event happened in one of the ``within`` rows before each row."""
    rows = np.arange(len(event))[:, None]
    last = np.maximum.accumulate(np.where(event, rows, -within - 1), axis=0)
    return rows - last <= within
