"""Which paths traffic takes next: decided from the matrices of late, and only where that has been worth it.

The plan is made for all matrices of the last hour at once, since the next one will be like one of them. Beside it
stands what switches do by themselves, all shortest paths alike. Both are followed, whichever is in force, and the plan
is in force while the worst link has been used less by it, over days, than without.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from forestall.fabric.paths import Paths
from forestall.fabric.routing import Prices, spread
from forestall.model.samples import FloatArray

HOUR_SECONDS, DAY_SECONDS = 3_600, 86_400
FEWEST, MOST = 4, 60
"""Scenarios."""


@dataclass(frozen=True)
class PlannerSettings:
    """How paths are chosen.

    Attributes
    ----------
    scenarios
        So many matrices, the newest, are what may come.
    memory
        What each way has cost fades over so many intervals.
    gain
        The plan is in force while the worst link is used less by this share than without.
    prices
        What changes cost.
    """

    scenarios: int = 12
    memory: int = 288
    gain: float = 0.02
    prices: Prices = field(default_factory=Prices)

    @classmethod
    def of(cls, step_seconds: float) -> PlannerSettings:
        """Those for intervals of this length."""
        scenarios = min(max(round(HOUR_SECONDS / step_seconds), FEWEST), MOST)
        return cls(scenarios=scenarios, memory=max(round(DAY_SECONDS / step_seconds), scenarios))


class TrafficPlanner:
    """Chooses paths, interval by interval.

    Parameters
    ----------
    paths
        Candidates.
    settings
        How.

    Attributes
    ----------
    share
        Array (path,): what is in force.
    """

    def __init__(self, paths: Paths, settings: PlannerSettings) -> None:
        self._paths, self._settings = paths, settings
        self._plan = self.share = paths.equal
        self._seen: deque[FloatArray] = deque(maxlen=settings.scenarios)
        self._planned = self._equal = self._count = 0.0

    def decide(self, traffic: FloatArray) -> FloatArray:
        """Shares (path,) for the next interval, after one with this traffic (pair,), bytes per second."""
        keep = 1.0 - 1.0 / self._settings.memory
        for_plan, for_equal = (self._paths.utilisation(each, traffic).max(initial=0.0) for each in self._both())
        self._planned = keep * self._planned + for_plan
        self._equal = keep * self._equal + for_equal
        self._count = keep * self._count + 1.0
        self._seen.append(traffic)
        scenarios = np.array(self._seen)
        weight = np.full(len(scenarios), 1.0 / len(scenarios))
        usual = self._equal / self._count
        self._plan = spread(self._paths, scenarios, weight, self._plan, self._settings.prices, usual)
        pays = self._planned < (1.0 - self._settings.gain) * self._equal
        self.share = self._plan if pays else self._paths.equal
        return self.share

    def _both(self) -> tuple[FloatArray, FloatArray]:
        return self._plan, self._paths.equal
