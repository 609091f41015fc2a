"""Other ways to choose paths, each from the traffic of the past alone; docs/peers.md says whose they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from forestall.fabric.paths import Paths
from forestall.fabric.routing import Prices, spread
from forestall.model.samples import FloatArray

FREE = Prices(change=0.0)
SMOOTHING = 0.3
ELEPHANT = 0.1
"""A pair that fills so much of its source's own link is placed by itself (Hedera)."""


class Router(Protocol):
    """Chooses paths, interval by interval."""

    share: FloatArray
    """Array (path,): what is in force."""

    def decide(self, traffic: FloatArray) -> FloatArray:
        """Shares for the next interval, after one with this traffic (pair,)."""
        ...


class Fixed:
    """The same paths for ever."""

    def __init__(self, share: FloatArray) -> None:
        self.share = share

    def decide(self, traffic: FloatArray) -> FloatArray:
        """As ever."""
        return self.share


class Engineered:
    """Planned by a linear programme for one matrix, which is made of those of the past.

    Parameters
    ----------
    paths
        Candidates.
    hour
        Intervals in an hour.
    expected
        Makes the matrix (pair,) of those of the last hour (time, pair), oldest first.
    """

    def __init__(self, paths: Paths, hour: int, expected: Callable[[FloatArray], FloatArray]) -> None:
        self._paths, self._expected, self.share = paths, expected, paths.equal
        self._seen: deque[FloatArray] = deque(maxlen=hour)

    def decide(self, traffic: FloatArray) -> FloatArray:
        """Plan anew."""
        self._seen.append(traffic)
        self.share = plan_for(self._paths, self._expected(np.array(self._seen)))
        return self.share


class Robust:
    """One plan for all matrices of the last hour, renewed each half hour (Applegate and Cohen, 2003)."""

    def __init__(self, paths: Paths, hour: int) -> None:
        self._paths, self.share = paths, paths.equal
        self._seen: deque[FloatArray] = deque(maxlen=hour)
        self._every = max(hour // 2, 1)
        self._decided = 0

    def decide(self, traffic: FloatArray) -> FloatArray:
        """Plan anew, if it is time."""
        self._seen.append(traffic)
        if self._decided % self._every == 0:
            scenarios = np.array(self._seen)
            self.share = _planned(self._paths, scenarios)
        self._decided += 1
        return self.share


class FirstFit:
    """Large pairs, largest first, on the first path that has room; all others on shortest paths (Hedera, 2010)."""

    def __init__(self, paths: Paths) -> None:
        self._paths, self.share = paths, paths.equal
        self._uses = paths.uses.tocsc()
        self._of = [np.flatnonzero(paths.pair == pair) for pair in range(len(paths.pairs))]
        self._own = np.full(len(paths.pairs), np.inf)
        self._own[paths.pair] = paths.capacity[paths.first]

    def decide(self, traffic: FloatArray) -> FloatArray:
        """Place the large ones anew."""
        paths, share = self._paths, self._paths.equal.copy()
        large = np.flatnonzero(traffic > ELEPHANT * self._own)
        small = traffic.copy()
        small[large] = 0.0
        room = paths.capacity - paths.uses @ (share * small[paths.pair])
        for pair in large[np.argsort(-traffic[large], kind="stable")].tolist():
            for path in self._of[pair].tolist():
                links = self._uses.indices[self._uses.indptr[path] : self._uses.indptr[path + 1]]
                if (room[links] >= traffic[pair]).all():
                    room[links] -= traffic[pair]
                    share[self._of[pair]] = 0.0
                    share[path] = 1.0
                    break
            else:  # it stays where it is
                room -= paths.uses[:, self._of[pair]] @ (paths.equal[self._of[pair]] * traffic[pair])
        self.share = share
        return share


def plan_for(paths: Paths, traffic: FloatArray) -> FloatArray:
    """The best shares for one matrix."""
    return _planned(paths, traffic[None, :])


def _planned(paths: Paths, scenarios: FloatArray) -> FloatArray:
    """The best shares for some matrices (scenario, pair), made from nothing."""
    weight = np.full(len(scenarios), 1.0 / len(scenarios))
    usual = float(paths.worst(paths.equal, scenarios).mean())
    return spread(paths, scenarios, weight, paths.equal, FREE, usual)


def _smoothed(seen: FloatArray) -> FloatArray:
    value: FloatArray = seen[0]
    for each in seen[1:]:
        value = SMOOTHING * each + (1.0 - SMOOTHING) * value
    return value


def _last(seen: FloatArray) -> FloatArray:
    found: FloatArray = seen[-1]
    return found


def _highest(seen: FloatArray) -> FloatArray:
    found: FloatArray = seen.max(axis=0)
    return found


def _shortest(paths: Paths) -> FloatArray:
    """All traffic of a pair on the first of its shortest paths."""
    share = np.zeros(len(paths.pair))
    share[np.unique(paths.pair, return_index=True)[1]] = 1.0
    return share


PEERS: Mapping[str, Callable[[Paths, int], Router]] = {
    "shortest_path": lambda paths, hour: Fixed(_shortest(paths)),
    "ecmp": lambda paths, hour: Fixed(paths.equal),
    "last_matrix": lambda paths, hour: Engineered(paths, 1, _last),
    "ewma": lambda paths, hour: Engineered(paths, hour, _smoothed),
    "last_hour_max": lambda paths, hour: Engineered(paths, hour, _highest),
    "robust": Robust,
    "hedera": lambda paths, hour: FirstFit(paths),
}
"""By name; each is given the candidates, and how many intervals an hour has."""
