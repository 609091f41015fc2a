r"""Which VMs move together, and who moves first.

Once a day each VM's changes over the week are compared with those of others, at the same moment and up to
:data:`MOST_LAG` steps earlier; the two that explain it best are its companions. Changes are in deviations, clipped, so
that one burst does not make a friendship; of a large fleet a random part is tried each day and who was found is kept,
so that the cost is linear in VMs. Only VMs of the same trust group are compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.profiling.trust import TrustGroups
from forestall.profiling.window import Window, retained

COMPANIONS = 2
MOST_LAG = 3
MOST_TRIED = 2048
MOST_CHANGE = 3.0
LEAST_CORRELATION, GROUP_CORRELATION = 0.2, 0.5
CHANCE_DEVIATIONS = 5.5
"""Of a correlation of two who have nothing to do with each other: among millions of pairs none goes beyond."""
LEAST_STEPS = 48
ACCOMPANIED = 3
NOBODY = -1


class Group(NamedTuple):
    """VMs that move together.

    Attributes
    ----------
    vms
        Array (member,): who, the one that moves first at the front.
    lag
        Array (member,): how many steps after that one each moves.
    correlation
        Mean of the correlations by which they are one group.
    """

    vms: IntArray
    lag: IntArray
    correlation: float


class Companions:
    """The companions of each VM, and what they have just done.

    Parameters
    ----------
    trust
        Which VMs may be companions.

    Attributes
    ----------
    who, lag, correlation
        Arrays (companion, vm): whose change, how many steps earlier, and how strongly; :data:`NOBODY` for none.
    """

    def __init__(self, trust: TrustGroups | None = None, seed: int = 0) -> None:
        self._trust = trust or TrustGroups()
        self._generator = np.random.default_rng(seed)
        self.who: IntArray = np.full((COMPANIONS, 0), NOBODY)
        self.lag: IntArray = np.zeros((COMPANIONS, 0), np.int64)
        self.correlation: FloatArray = np.zeros((COMPANIONS, 0))
        self._deviation: FloatArray = np.zeros(0)
        self._chance: FloatArray = np.zeros(0)

    def observe(self, window: Window) -> None:
        """Look for the companions of the VMs whose turn it is: once a day, a share of the fleet at every hour."""
        new = window.vms - self.who.shape[1]
        self.who = np.pad(self.who, ((0, 0), (0, new)), constant_values=NOBODY)
        self.lag = np.pad(self.lag, ((0, 0), (0, new)))
        self.correlation = np.pad(self.correlation, ((0, 0), (0, new)))
        self._deviation, self._chance = np.pad(self._deviation, (0, new)), np.pad(self._chance, (0, new))
        self._part_strangers(window.vms)
        hours, rest = divmod(window.count, window.hour)
        if hours < 4 or rest or window.vms < 2 or min(window.count, window.capacity) < LEAST_STEPS + MOST_LAG:
            return
        for _, members in self._trust.members(window.vms):
            turn = members[members % 24 == hours % 24]
            if len(turn):
                self._look(window, turn, members)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order; also as companions."""
        place = np.full(self.who.shape[1] + 1, NOBODY)
        place[rows[rows < self.who.shape[1]]] = np.arange(np.count_nonzero(rows < self.who.shape[1]))
        self.who, self.lag = place[retained(self.who, rows, 1)], retained(self.lag, rows, 1)
        self.correlation = np.where(self.who >= 0, retained(self.correlation, rows, 1), 0.0)
        self._deviation, self._chance = retained(self._deviation, rows, 0), retained(self._chance, rows, 0)

    def figures(self, window: Window) -> FloatArray:
        """What companions say (figure, vm), in units of the VM's scale, bounded.

        They are: what those who move first let expect of the next change, how far the VM is behind those with whom it
        moves at once, and the strongest correlation.
        """
        there = self.who >= 0
        if not there.any():
            return np.zeros((ACCOMPANIED, window.vms))
        deviation, them = np.maximum(self._deviation, 1e-12), np.where(there, self.who, 0)
        theirs = _change(window, np.maximum(self.lag - 1, 0), them) / deviation[them]
        said = np.where(there, self.correlation * np.clip(theirs, -MOST_CHANGE, MOST_CHANGE), 0.0)
        own = _change(window, np.zeros(window.vms, np.int64), np.arange(window.vms)) / deviation
        ahead = np.where(self.lag > 0, said, 0.0).sum(axis=0)
        behind = np.where(there & (self.lag == 0), said - own, 0.0).sum(axis=0)
        moved = np.clip([ahead, behind], -2 * MOST_CHANGE, 2 * MOST_CHANGE) * (self._deviation / window.scale())
        return np.concatenate([moved, self.correlation[:1]])

    def groups(self, least: float = GROUP_CORRELATION) -> list[Group]:
        """VMs that move together, the largest group first: each is tied to another of its group by ``least`` or more.

        Whoever moves against another (a negative correlation) is not together with it, and while little was seen only
        those who are tied by more than chance ties some of so many.
        """
        count = self.who.shape[1]
        companion, follower = np.nonzero((self.who != NOBODY) & (self.correlation >= np.maximum(least, self._chance)))
        leader = self.who[companion, follower]
        lag, strength = self.lag[companion, follower], self.correlation[companion, follower]
        tied = coo_array((np.ones(len(leader)), (leader, follower)), shape=(count, count)).tocsr()
        number, label = connected_components(tied, directed=False)
        size = np.bincount(label, minlength=number)
        between = dict(zip(zip(leader.tolist(), follower.tolist(), strict=True), lag.tolist(), strict=True))
        found = []
        for k in np.flatnonzero(size > 1):
            members = np.flatnonzero(label == k)
            order, before = breadth_first_order(tied, members[0], directed=False)
            after = dict.fromkeys(order.tolist(), 0)
            for vm in order[1:].tolist():
                other = int(before[vm])
                step = between[other, vm] if (other, vm) in between else -between[vm, other]
                after[vm] = after[other] + step
            moved = np.array([after[vm] for vm in members.tolist()])
            sequence = np.argsort(moved, kind="stable")
            strong = float(strength[label[follower] == k].mean())
            found.append(Group(members[sequence], (moved - moved.min())[sequence], strong))
        return sorted(found, key=lambda group: (-len(group.vms), -group.correlation))

    def _part_strangers(self, vms: int) -> None:
        """Forget companions that are of another trust group by now."""
        if self._trust.count > 1:
            of = self._trust.of(vms)
            strangers = (self.who != NOBODY) & (of[self.who] != of)
            self.who[strangers], self.correlation[strangers] = NOBODY, 0.0

    def _look(self, window: Window, turn: IntArray, tried: IntArray) -> None:
        """Find the companions of ``turn`` among ``tried``, which includes them."""
        if len(tried) > MOST_TRIED:
            known = self.who[:, turn].ravel()
            theirs = self.who[:, known[known >= 0]].ravel()  # and those who move with those who are known
            random = self._generator.permutation(tried)[:MOST_TRIED]
            tried = np.unique(np.concatenate([known[known >= 0], theirs[theirs >= 0], random]))
        both = np.union1d(tried, turn)
        change, deviation = _changes(window.tail(window.capacity)[:, both])
        place = np.searchsorted(both, turn)
        others = np.searchsorted(both, tried)
        steps = len(change) - MOST_LAG
        own = change[MOST_LAG:, place]
        found = np.stack(
            [change[MOST_LAG - lag : MOST_LAG - lag + steps, others].T @ own / steps for lag in range(MOST_LAG + 1)]
        )
        found[:, tried[:, None] == turn[None]] = 0.0
        best_lag = np.abs(found).argmax(axis=0)
        strength = np.take_along_axis(found, best_lag[None], axis=0)[0]
        order = np.argsort(-np.abs(strength), axis=0)[:COMPANIONS]
        order = np.pad(order, ((0, COMPANIONS - len(order)), (0, 0)), mode="edge")
        chosen = np.take_along_axis(strength, order, axis=0)
        real = np.abs(chosen) >= LEAST_CORRELATION
        self.who[:, turn] = np.where(real, tried[order], NOBODY)
        self.lag[:, turn] = np.take_along_axis(best_lag, order, axis=0)
        self.correlation[:, turn] = np.where(real, chosen, 0.0)
        self._deviation[both] = deviation
        self._chance[turn] = CHANCE_DEVIATIONS / np.sqrt(steps)


def _changes(samples: Float32Array) -> tuple[Float32Array, FloatArray]:
    """Changes (time, vm) in deviations, clipped, of mean zero and about unit variance; and the deviations (vm,)."""
    change = np.diff(samples, axis=0)
    known = np.isfinite(change)
    change = np.where(known, change, np.float32(0))
    deviation = np.sqrt(np.square(change, dtype=np.float64).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    scaled = np.clip(change / np.maximum(deviation, 1e-12), -MOST_CHANGE, MOST_CHANGE)
    scaled -= scaled.mean(axis=0)
    spread = scaled.std(axis=0)
    return (scaled / np.where(spread > 0, spread, 1.0)).astype(np.float32), deviation


def _change(window: Window, lag: IntArray, who: IntArray) -> FloatArray:
    """Change of the VMs ``who`` up to ``lag`` steps ago, both (...,); 0 where it is not known."""
    if window.count < 2:
        return np.zeros(who.shape)
    later, earlier = window.sample(lag, who), window.sample(lag + 1, who)
    return np.nan_to_num((later - earlier).astype(np.float64))
