"""The recording of the five guests of the lab, and their days at the length that they stand for."""

from __future__ import annotations

from pathlib import Path

from forestall.model.samples import Trace
from forestall.replay.resampling import DAY_SECONDS, coarsen, stretch
from forestall.replay.trace_reader import read_trace

RECORDING = Path(__file__).with_name("lab.parquet")
"""Five VMs, every second, all resources."""
RECORDED_DAY_SECONDS = 600
"""What the guests took for a day."""
RECORDED_MIDNIGHT = 1_795_668_072
"""When the first day of the guests began, seconds UTC."""
STRETCH = DAY_SECONDS // RECORDED_DAY_SECONDS


def lab_days(step_seconds: int = 5) -> Trace:
    """The recording with days of 24 hours, hours as the guests had them, and no dates.

    Parameters
    ----------
    step_seconds
        Recorded seconds in an interval, which counts as ``STRETCH`` times as many; midnight moves to a multiple of it.
    """
    midnight = round(RECORDED_MIDNIGHT / step_seconds) * step_seconds
    return stretch(coarsen(read_trace(RECORDING), step_seconds), STRETCH, midnight)
