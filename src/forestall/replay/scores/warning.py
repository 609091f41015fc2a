"""Risk as a warning: how long before a violation it was raised, and how many alarms that cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, FloatArray


@dataclass(frozen=True)
class WarningScores:
    """What alarms at a threshold are worth. NaN without an onset, or without a stated risk.

    Attributes
    ----------
    threshold
        A probability at or above it is an alarm.
    onsets, warned_share
        Violations that began; share of them with an alarm within the horizon before.
    median_lead_seconds
        Median time from the first alarm within the horizon to the start of the violation, of those warned.
    alarms_per_vm_day
        Alarms raised (an alarm that stays on counts once) per VM and day.
    """

    threshold: float
    onsets: int
    warned_share: float
    median_lead_seconds: float
    alarms_per_vm_day: float


def score_warnings(
    probability: FloatArray,
    violated: BoolArray,
    threshold: float,
    horizon_steps: int,
    step_seconds: float,
) -> WarningScores:
    """Score risk as an alarm.

    Parameters
    ----------
    probability
        Array (time, vm): stated at the end of interval i for the ``horizon_steps`` intervals after it; NaN
        where nothing was stated.
    violated
        Array (time, vm): whether demand exceeded the limit in the interval.
    """
    alarm = probability >= threshold
    onset = violated.copy()
    onset[1:] &= ~violated[:-1]
    ahead = np.zeros(alarm.shape, dtype=np.int64)
    for steps in range(1, horizon_steps + 1):
        ahead[steps:] = np.where(alarm[:-steps], steps, ahead[steps:])
    warned = ahead[onset]
    leads = (warned[warned > 0] - 1) * step_seconds
    raised = alarm.copy()
    raised[1:] &= ~alarm[:-1]
    stated_days = float((~np.isnan(probability)).sum()) * step_seconds / 86_400.0
    return WarningScores(
        threshold=threshold,
        onsets=int(onset.sum()),
        warned_share=float((warned > 0).mean()) if len(warned) else float("nan"),
        median_lead_seconds=float(np.median(leads)) if len(leads) else float("nan"),
        alarms_per_vm_day=float(raised.sum()) / stated_days if stated_days > 0 else float("nan"),
    )
