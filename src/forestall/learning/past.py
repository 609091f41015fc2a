"""What is known of every VM in one resource, kept once and seen by all forecasters."""

from __future__ import annotations

import numpy as np

from forestall.learning.features import WeekStatistics
from forestall.model.applications import CATEGORIES
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.activity import Activity
from forestall.profiling.companions import Companions
from forestall.profiling.period import Periods
from forestall.profiling.segments import Segments
from forestall.profiling.trust import TrustGroups
from forestall.profiling.window import Window, retained

OVER_LIMIT_RATIO = 1.5
"""Applications that forecasts know by name, where it is said that a VM runs one."""
FLOORS = {Resource.CPU: 1e-3, Resource.MEMORY: float(1 << 20)}
RATE_FLOOR_BYTES_PER_S = 100.0


def floor_of(resource: Resource) -> float:
    """Demand below which differences do not matter, in the resource's unit."""
    return FLOORS.get(resource, RATE_FLOOR_BYTES_PER_S)


def plausible(demand: FloatArray, limit: FloatArray) -> FloatArray:
    """Demand as it is learned from: what is far above the limit is cut.

    There is nothing to allocate there, and one wild sample must not spoil a VM's scale for a week.
    """
    return np.minimum(demand, np.where(np.isnan(limit), np.inf, OVER_LIMIT_RATIO * limit))


class Past:
    """Samples, periods, segments, companions and the statistics of the week of one resource.

    Parameters
    ----------
    resource
        Resource whose samples are kept.
    step_seconds
        Sampling step.

    Attributes
    ----------
    tags
        Array (vm, application): whether each VM is said to run it; set by the owner, may know of fewer VMs.
    trust
        Which VMs may learn from each other; assigned by the owner.
    activity
        How many people use each VM; told by the owner before a step is taken in, may know of fewer VMs.
    """

    def __init__(self, resource: Resource, step_seconds: int) -> None:
        self.resource = resource
        self.window = Window(step_seconds, floor_of(resource))
        self.periods = Periods()
        self.week = WeekStatistics()
        self.segments = Segments()
        self.trust = TrustGroups()
        self.companions = Companions(self.trust)
        self.tags: BoolArray = np.zeros((0, len(CATEGORIES)), dtype=bool)
        self.activity = Activity(self.window.day)

    def take_in(self, demand: FloatArray, limit: FloatArray, now: int) -> None:
        """Append one step.

        Parameters
        ----------
        demand, limit
            Arrays (vm,) in the resource's unit; NaN demand is a gap.
        now
            Start of its interval, seconds.
        """
        self.window.push(plausible(demand, limit), limit)
        self.periods.observe(self.window)
        self.week.refresh(self.window)
        self.segments.observe(self.window, now)
        self.companions.observe(self.window)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        self.window.keep(rows)
        self.periods.keep(rows)
        self.week.keep(rows)
        self.segments.keep(rows)
        self.companions.keep(rows)
        self.tags = retained(self.tags, rows, 0)
        self.activity.keep(rows)
        self.trust.keep(rows)
