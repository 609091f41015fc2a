r"""Sharing a pool by equal marginal risk.

VM i wants the amount at which it falls short with probability :math:`p_i`, what its promise allows at this moment. With
room to spare it gets that. When the pool is tight, minimising the weighted expected shortfall
:math:`\sum_i w_i E[(D_i - a_i)^+]` under :math:`\sum_i a_i \le C` gives one condition,

.. math:: w_i \, P(D_i > a_i) = \lambda \quad\text{for every VM between its floor and what it wants,}

so that :math:`a_i(\lambda) = Q_i(1 - \max(p_i, \lambda / w_i))`, within floor and ceiling, and one price
:math:`\lambda` for each pool is found by bisection (water-filling: Boyd & Vandenberghe, *Convex Optimization*, 5.5.3).
Heavier VMs keep more at equal risk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.learning.levels import logit, value_at
from forestall.model.samples import BoolArray, FloatArray, IntArray

PRICES, ROUNDS = 33, 9
"""So many prices are tried at once, and so often between the two around the right one."""
LOWEST_PRICE = 1e-9


@dataclass(frozen=True)
class Claims:
    """What VMs want from pools.

    Attributes
    ----------
    quantiles
        Array (vm, level): quantiles of demand, non-decreasing.
    levels
        Array (level,).
    probability
        Array (vm,): chance of falling short that the VM's promise allows now.
    wanted
        Array (vm,): the amount at that chance; also the most that a VM gets.
    weight
        Array (vm,), > 0.
    floor
        Array (vm,): never less than this, while floors fit into the pool.
    """

    quantiles: FloatArray
    levels: FloatArray
    probability: FloatArray
    wanted: FloatArray
    weight: FloatArray
    floor: FloatArray

    def at_price(self, price: FloatArray) -> FloatArray:
        """Amount (vm, place) that each VM gets when risk costs ``price`` (vm, place)."""
        short = price / self.weight[:, None]
        bought = quantile(self.quantiles, self.levels, short)
        # Between what it wants and its floor a VM is squeezed; with the price at zero it has what it wants.
        wanted = self.wanted[:, None]
        content = short <= self.probability[:, None]
        return np.maximum(np.where(content, wanted, np.minimum(bought, wanted)), self.floor[:, None])


@dataclass(frozen=True)
class Share:
    """What came of it.

    Attributes
    ----------
    amount
        Array (vm,).
    price
        Array (host,): λ of each pool.
    floors_cut
        Array (host,): whether the floors did not fit.
    floor
        Array (vm,): the floors that were kept.
    """

    amount: FloatArray
    price: FloatArray
    floors_cut: BoolArray
    floor: FloatArray


def quantile(quantiles: FloatArray, levels: FloatArray, short: FloatArray) -> FloatArray:
    """Amount (vm, place) that demand exceeds with probability ``short`` (vm, place).

    Below the lowest level the quantile function goes straight to zero at certainty, so that a price can always
    be found that makes everybody small enough.
    """
    inside = np.clip(short, 1e-9, 1.0 - levels[0])
    amount = value_at(quantiles, logit(levels), logit(1.0 - inside))
    return np.where(short > 1.0 - levels[0], amount * np.clip((1.0 - short) / levels[0], 0.0, 1.0), amount)


def water_fill(claims: Claims, host_of_vm: IntArray, capacity: FloatArray, rounds: int = ROUNDS) -> Share:
    """Share the pools.

    Parameters
    ----------
    claims
        What the VMs want; amounts of VMs without a forecast must have been filled in.
    host_of_vm
        Array (vm,): index of each VM's pool.
    capacity
        Array (host,): inf for a pool without an end.
    rounds
        How often the prices around the right one are divided; each makes λ thirty times as exact.

    Returns
    -------
    Share
        ``amount`` never adds up to more than the capacity of a pool. λ is 0 where there is room.
    """
    hosts = len(capacity)

    def total(amount: FloatArray) -> FloatArray:
        return np.bincount(host_of_vm, weights=amount, minlength=hosts).astype(np.float64)

    floors = total(claims.floor)
    cut = floors > capacity
    ratio = np.where(cut, capacity / np.where(floors > 0, floors, 1.0), 1.0)[host_of_vm]
    claims = Claims(
        claims.quantiles, claims.levels, claims.probability, claims.wanted, claims.weight, claims.floor * ratio
    )
    wanted = np.maximum(claims.wanted, claims.floor)
    tight = total(wanted) > capacity
    if not tight.any():
        return Share(wanted, np.zeros(hosts), cut, claims.floor)
    low = np.full(hosts, np.log(LOWEST_PRICE))
    high = np.full(hosts, np.log(claims.weight.max() * 1.001))
    part = np.linspace(0.0, 1.0, PRICES)
    for _ in range(rounds):
        tried = low[:, None] + (high - low)[:, None] * part
        amounts = claims.at_price(np.exp(tried)[host_of_vm])
        totals = np.zeros((hosts, PRICES))
        np.add.at(totals, host_of_vm, amounts)
        # The highest price fits, but for rounding: there everybody has the floor.
        fits = totals <= capacity[:, None]
        fits[:, -1] = True
        first = np.maximum(np.argmax(fits, axis=1), 1)
        low, high = tried[np.arange(hosts), first - 1], tried[np.arange(hosts), first]
    price = np.where(tight, np.exp(high), 0.0)
    squeezed = claims.at_price(np.exp(high)[host_of_vm][:, None])[:, 0]
    amount = np.where(tight[host_of_vm], squeezed, wanted)
    # The last rounding errors of a sum are taken from everybody alike.
    excess = total(amount) / np.where(capacity > 0, capacity, 1.0)
    return Share(amount / np.maximum(excess, 1.0)[host_of_vm], price, cut, claims.floor)
