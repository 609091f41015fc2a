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
from forestall.fabric.routing import Prices, held_back, kept_whole, spread
from forestall.model.samples import FloatArray, IntArray

HOUR_SECONDS, DAY_SECONDS = 3_600, 86_400
FEWEST, MOST = 4, 24
"""Scenarios."""
DRAWS = 8
"""So many ways are tried in which chance may place pairs."""


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
    whole
        Whether pairs take one path where that costs little: where traffic is split by connections, not by packets.
    prices
        What changes cost.
    """

    scenarios: int = 12
    memory: int = 288
    gain: float = 0.02
    whole: bool = False
    prices: Prices = field(default_factory=Prices)

    @classmethod
    def of(cls, step_seconds: float, *, whole: bool = False) -> PlannerSettings:
        """Those for intervals of this length."""
        scenarios = min(max(round(HOUR_SECONDS / step_seconds), FEWEST), MOST)
        return cls(scenarios, max(round(DAY_SECONDS / step_seconds), scenarios), whole=whole)


@dataclass
class Judge:
    """What the worst link was used by the plan, and by equal splitting: sums that fade, over so many intervals."""

    planned: float = 0.0
    equal: float = 0.0
    count: float = 0.0

    def see(self, planned: float, equal: float, keep: float) -> None:
        """Take in an interval; what was before keeps this share of its weight."""
        self.planned = keep * self.planned + planned
        self.equal = keep * self.equal + equal
        self.count = keep * self.count + 1.0

    def no_worse(self, at_stake: float, gain: float) -> bool:
        """Whether the plan has not been worse, by more than this share.

        What is at stake now, use of the worst link, counts as some intervals in which both were alike: in a network
        that has carried next to nothing so far, who was worse is chance.
        """
        alike = MOST * at_stake
        return self.planned + alike <= (1.0 + gain) * (self.equal + alike)


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
    in_force
        Whether that is the plan, or on its way to it, and not equal splitting.
    """

    def __init__(self, paths: Paths, settings: PlannerSettings) -> None:
        self._paths, self._settings = paths, settings
        self._plan = self.share = paths.equal
        self.in_force = True
        self._seen: deque[FloatArray] = deque(maxlen=settings.scenarios)
        self._usual = Judge()
        self._luck = np.random.default_rng(0).random((DRAWS if settings.whole else 0, len(paths.pairs)))

    @property
    def costs(self) -> tuple[float, float] | None:
        """Mean use of the worst link of late by the plan, and by equal splitting; None before the first plan."""
        usual = self._usual
        return (usual.planned / usual.count, usual.equal / usual.count) if usual.count else None

    def take_up(self, share: FloatArray) -> None:
        """Begin with shares (path,) that were in force before; a pair that has none is split equally."""
        self._plan = self.share = _whole(self._paths, share)
        self.in_force = not np.allclose(self._plan, self._paths.equal)

    def adopt(self, paths: Paths, pair: IntArray, path: IntArray) -> None:
        """Go on with other pairs, or in another network.

        Parameters
        ----------
        paths
            Candidates from now on.
        pair, path
            Arrays (pair,), (path,): which of the former each is; -1: a new one.
        """
        known = path >= 0

        def taken(share: FloatArray) -> FloatArray:
            return _whole(paths, np.where(known, share[np.where(known, path, 0)] if len(share) else 0.0, 0.0))

        self._plan = taken(self._plan)
        self.share = self._plan if self.in_force else taken(self.share)
        kept = pair >= 0
        before = np.where(kept, pair, 0)
        self._seen = deque(
            (np.where(kept, seen[before] if len(seen) else 0.0, 0.0) for seen in self._seen), self._seen.maxlen
        )
        self._paths = paths
        self._luck = np.random.default_rng(0).random((len(self._luck), len(paths.pairs)))

    def decide(self, traffic: FloatArray, ahead: FloatArray | None = None) -> FloatArray:
        """Shares (path,) for the next interval.

        Parameters
        ----------
        traffic
            Array (pair,): what was sent in the interval that has ended, bytes per second.
        ahead
            Array (scenario, pair): what may come, beside what came of late.
        """
        keep = 1.0 - 1.0 / self._settings.memory
        both = [self._cost(each, traffic[None], np.ones(1)) for each in self._both()]
        self._usual.see(both[0], both[1], keep)
        self._seen.append(traffic)
        scenarios, weight = _together(np.array(self._seen), ahead)
        usual = self._usual.equal / self._usual.count
        plan = spread(self._paths, scenarios, weight, self._plan, self._settings.prices, usual)
        if self._settings.whole:
            plan = kept_whole(self._paths, scenarios, weight, plan, self._plan, self._settings.prices, usual)
        self._plan = plan
        self.in_force = self._pays(scenarios, weight)
        wanted = self._plan if self.in_force else self._paths.equal
        self.share = held_back(self._paths, traffic, self.share, wanted) if self._settings.whole else wanted
        if self.in_force:
            self._plan = self.share
        return self.share

    def _pays(self, scenarios: FloatArray, weight: FloatArray) -> bool:
        """Whether the plan is to be in force.

        Where traffic is split by packets it must have been better, for equal splitting is hard to beat, and any plan
        looks better in what it was made for. Where chance places connections it must promise to be better, and not have
        been worse; and while it is in force it need only be no worse.
        """
        usual, gain = self._usual, self._settings.gain
        if not self._settings.whole:
            return usual.planned < (1.0 - gain) * usual.equal
        promised, without = (self._cost(each, scenarios, weight) for each in self._both())
        least = 0.0 if self.in_force else gain
        return promised <= (1.0 - least) * without and usual.no_worse(without, gain)

    def _cost(self, share: FloatArray, traffic: FloatArray, weight: FloatArray) -> float:
        """Mean use of the worst link by traffic (scenario, pair) of these weights (scenario,).

        Where switches split by connections, a pair is one: it takes a path by chance, as likely as its share says.
        """
        if not self._settings.whole:
            return float(self._paths.worst(share, traffic) @ weight)
        drawn = (self._paths.drawn(share, luck) for luck in self._luck)
        return float(np.mean([self._paths.worst(each, traffic) @ weight for each in drawn]))

    def _both(self) -> tuple[FloatArray, FloatArray]:
        return self._plan, self._paths.equal


def _together(seen: FloatArray, ahead: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Scenarios of what came and of what may come, and their weights: half for each."""
    if ahead is None or not len(ahead):
        return seen, np.full(len(seen), 1.0 / len(seen))
    weight = np.concatenate([np.full(len(each), 0.5 / len(each)) for each in (seen, ahead)])
    return np.concatenate([seen, ahead]), weight


def _whole(paths: Paths, share: FloatArray) -> FloatArray:
    """Shares (path,) that add up to 1 for each pair; one that has nothing left is split equally."""
    whole = np.bincount(paths.pair, share, minlength=len(paths.pairs))[paths.pair]
    return np.divide(share, whole, out=paths.equal.copy(), where=whole > 0.0)
