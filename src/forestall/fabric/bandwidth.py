"""How much each VM may send and receive: what it is foreseen to need, where that fits; by weight where it does not.

At each place where traffic must pass, what there is is shared so that another byte is worth the same to everybody
(equal marginal risk, :mod:`forestall.learning.waterfill`); a VM that passes several gets the least of its shares. What
is left is given away by weight, up to everybody's ceiling: nobody is held down for nothing, and a burst that nobody
foresaw is met too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.learning.waterfill import Claims, water_fill
from forestall.model.samples import FloatArray, IntArray


@dataclass(frozen=True)
class Needs:
    """What VMs are foreseen to need; arrays (vm,) in bytes per second but for the first.

    Attributes
    ----------
    quantiles
        Array (vm, level): of the peak that comes, non-decreasing.
    levels
        Array (level,).
    budget
        The chance of falling short that each was promised at the most.
    weight, floor, ceiling
        What policy says; ``ceiling`` is finite: the speed of the interface where nothing else limits it.
    """

    quantiles: FloatArray
    levels: FloatArray
    budget: FloatArray
    weight: FloatArray
    floor: FloatArray
    ceiling: FloatArray


def allotted(needs: Needs, passes: IntArray, capacity: FloatArray) -> FloatArray:
    """What each VM gets, array (vm,).

    Parameters
    ----------
    needs
        Of the VMs.
    passes
        Array (place of each VM, vm): indices of places that all of its traffic passes, as its host's way into the
        network; -1: none.
    capacity
        Array (place,): bytes per second.
    """
    wanted = np.array([np.interp(1.0 - p, needs.levels, q) for p, q in zip(needs.budget, needs.quantiles, strict=True)])
    wanted = np.clip(wanted, needs.floor, needs.ceiling)
    given = wanted.copy()
    for place in passes:
        at = np.flatnonzero(place >= 0)
        if not len(at):
            continue
        claims = Claims(
            needs.quantiles[at], needs.levels, needs.budget[at], wanted[at], needs.weight[at], needs.floor[at]
        )
        given[at] = np.minimum(given[at], water_fill(claims, place[at], capacity).amount)
    return _raised(given, needs, passes, capacity)


def _raised(given: FloatArray, needs: Needs, passes: IntArray, capacity: FloatArray) -> FloatArray:
    """Give away what is left, by weight, until each VM is at its ceiling or at a place that is full.

    All rise together (progressive filling); each round ends when a VM or a place is full: Bertsekas and Gallager, Data
    Networks, 6.5.2.
    """
    given = given.copy()
    rising = given < needs.ceiling
    for _ in range(len(given) + len(capacity)):
        if not rising.any():
            break
        weight = np.where(rising, needs.weight, 0.0)
        used, pull = np.zeros(len(capacity)), np.zeros(len(capacity))
        for place in passes:
            at = place >= 0
            used += np.bincount(place[at], given[at], len(capacity))
            pull += np.bincount(place[at], weight[at], len(capacity))
        room = np.maximum(capacity - used, 0.0)
        place_rise = np.divide(room, pull, out=np.full(len(capacity), np.inf), where=pull > 0.0)
        own_rise = np.divide(needs.ceiling - given, weight, out=np.full(len(given), np.inf), where=weight > 0.0)
        rise = min(place_rise.min(initial=np.inf), own_rise.min(initial=np.inf))
        given += rise * weight
        full = np.flatnonzero(place_rise <= rise * (1 + 1e-12))
        rising &= given < needs.ceiling * (1 - 1e-12)
        for place in passes:
            rising &= ~np.isin(place, full)
    return np.minimum(given, needs.ceiling)
