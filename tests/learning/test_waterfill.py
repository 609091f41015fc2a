"""Water-filling: never more than there is, equal marginal risk, heavier VMs first, and better than rules of thumb."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from forestall.demand.core import Conditions, DemandLoop
from forestall.demand.settings import DemandSettings
from forestall.learning.waterfill import Claims, quantile, water_fill
from forestall.model.forecast import LEVELS
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray

LEVEL = np.asarray(LEVELS)


@st.composite
def pools(draw: st.DrawFn) -> tuple[Claims, IntArray, FloatArray]:
    """Claims of some VMs on one to three pools, tight or not."""
    vms = draw(st.integers(1, 8))
    hosts = draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    unit = draw(st.sampled_from([1e-2, 1.0, 1e10]))
    shape, size = generator.uniform(0.3, 5.0, vms), generator.uniform(0.1, 5.0, vms) * unit
    quantiles = stats.gamma(shape[:, None]).ppf(LEVEL) * size[:, None]
    if draw(st.booleans()):
        quantiles[0] = quantiles[0, 0]  # a VM whose demand is known exactly
    probability = generator.uniform(0.001, 0.2, vms)
    wanted = quantile(quantiles, LEVEL, probability[:, None])[:, 0] * generator.choice([1.0, 1.0, 1.5], vms)
    weight = generator.choice([0.1, 1.0, 2.0, 4.0, 100.0], vms)
    floor = np.minimum(wanted, generator.choice([0.0, 0.0, 0.3, 1.0], vms) * wanted)
    host = generator.integers(0, hosts, vms)
    ratio = draw(st.sampled_from([0.01, 0.3, 0.7, 0.95, 1.0, 2.0, np.inf]))
    capacity = (np.bincount(host, wanted, hosts) + 1e-12 * unit) * ratio
    return Claims(quantiles, LEVEL, probability, wanted, weight, floor), host, capacity


def _total(host: IntArray, amount: FloatArray, hosts: int) -> FloatArray:
    return np.bincount(host, amount, hosts)


@given(pools())
@settings(max_examples=150)
def test_what_holds_in_every_pool(pool: tuple[Claims, IntArray, FloatArray]) -> None:
    claims, host, capacity = pool
    share = water_fill(claims, host, capacity)
    hosts = len(capacity)
    assert (_total(host, share.amount, hosts) <= capacity * (1 + 1e-12)).all()
    assert (share.amount <= claims.wanted * (1 + 1e-12)).all()
    fits = _total(host, claims.floor, hosts) <= capacity
    assert (share.floors_cut == ~fits).all()
    assert (share.amount >= claims.floor * (1 - 1e-9))[fits[host]].all()
    assert (share.amount >= share.floor * (1 - 1e-9)).all()
    room = _total(host, claims.wanted, hosts) <= capacity
    assert (share.price[room] == 0).all()
    np.testing.assert_array_equal(share.amount[room[host]], claims.wanted[room[host]])
    assert (share.price[~room] > 0).all()


@given(pools())
@settings(max_examples=100)
def test_risk_times_weight_is_the_price_of_the_pool(pool: tuple[Claims, IntArray, FloatArray]) -> None:
    claims, host, capacity = pool
    share = water_fill(claims, host, capacity)
    between = (share.amount > share.floor * (1 + 1e-6)) & (share.amount < claims.wanted * (1 - 1e-6))
    for i in np.flatnonzero(between):
        quantiles = claims.quantiles[i]
        if share.amount[i] <= quantiles[0] * (1 + 1e-6) or np.ptp(quantiles) == 0:
            continue
        fine = np.geomspace(1e-6, 1 - LEVEL[0], 20_000)
        amounts = quantile(quantiles[None], LEVEL, fine[None])[0]
        risk = np.interp(-share.amount[i], -amounts, fine)
        assert claims.weight[i] * risk == pytest.approx(share.price[host[i]], rel=0.02)


@given(pools(), st.floats(1.0, 3.0))
@settings(max_examples=100)
def test_more_capacity_takes_from_nobody(pool: tuple[Claims, IntArray, FloatArray], factor: float) -> None:
    claims, host, capacity = pool
    assume(not water_fill(claims, host, capacity).floors_cut.any())
    before, after = water_fill(claims, host, capacity), water_fill(claims, host, capacity * factor)
    assert (after.amount >= before.amount * (1 - 1e-9)).all()
    assert (after.price <= before.price * (1 + 1e-9)).all()


@given(pools(), st.floats(1.0, 50.0))
@settings(max_examples=100)
def test_the_heavier_of_two_equals_never_gets_less(pool: tuple[Claims, IntArray, FloatArray], heavier: float) -> None:
    claims, host, capacity = pool
    twice = Claims(
        *(np.concatenate([v, v[:1]]) if len(v) == len(host) and v is not LEVEL else v for v in _parts(claims))
    )
    twice.weight[-1] *= heavier
    share = water_fill(twice, np.r_[host, host[0]], capacity)
    assert share.amount[-1] >= share.amount[0] * (1 - 1e-9)


def _parts(claims: Claims) -> list[FloatArray]:
    names = ("quantiles", "levels", "probability", "wanted", "weight", "floor")
    return [np.array(v) if n != "levels" else LEVEL for n in names for v in [getattr(claims, n)]]


def test_known_risk_of_a_known_distribution() -> None:
    gammas = stats.gamma([1.0, 2.0, 4.0])
    quantiles = gammas.ppf(LEVEL[:, None]).T
    weight = np.array([4.0, 2.0, 1.0])
    wanted = quantiles[:, LEVELS.index(0.995)]
    claims = Claims(quantiles, LEVEL, np.full(3, 0.005), wanted, weight, np.zeros(3))
    share = water_fill(claims, np.zeros(3, np.int64), np.array([0.6 * wanted.sum()]))
    risk = gammas.sf(share.amount)
    np.testing.assert_allclose(weight * risk, share.price[0], rtol=0.12)
    assert share.amount.sum() == pytest.approx(0.6 * wanted.sum(), rel=1e-6)


def test_floors_that_do_not_fit_are_cut_alike() -> None:
    quantiles = np.tile(np.linspace(1, 4, len(LEVELS)), (2, 1))
    claims = Claims(quantiles, LEVEL, np.full(2, 0.01), np.full(2, 4.0), np.ones(2), np.array([3.0, 1.0]))
    share = water_fill(claims, np.zeros(2, np.int64), np.array([2.0]))
    np.testing.assert_allclose(share.amount, [1.5, 0.5])
    np.testing.assert_allclose(share.floor, [1.5, 0.5])
    assert share.floors_cut.tolist() == [True]


WEIGHTS = np.tile([4.0, 2.0, 1.0], 4)
LIMIT = np.tile([4.0, 4.0, 4.0, 2.0], 3)


def _busy_fleet(steps: int) -> FloatArray:
    """VMs that together come near 60 % of their limits, each at its own hours."""
    generator = np.random.default_rng(5)
    phase = generator.uniform(0, 2 * np.pi, 12)
    load = 0.42 + 0.3 * np.sin(2 * np.pi * np.arange(steps)[:, None] / 144 + phase)
    return np.clip(load * generator.lognormal(0, 0.15, (steps, 12)), 0, 1) * LIMIT


def test_in_a_tight_pool_the_weighted_shortfall_is_less_than_by_rules_of_thumb() -> None:
    demand = _busy_fleet(330)
    capacity = 0.6 * LIMIT.sum()
    loop = DemandLoop(Resource.CPU, DemandSettings(300, horizons_seconds=()))
    usual = Conditions.default(LIMIT, (0.01,))
    conditions = Conditions(WEIGHTS, usual.floor, usual.ceiling, usual.budget, usual.host_of_vm, np.array([capacity]))
    cycles = [loop.step(row, LIMIT, i * 300, conditions) for i, row in enumerate(demand)]
    rows = slice(150, -1)
    actual = demand[151:]
    allocated = np.stack([c.allocated[0] for c in cycles])[rows]
    wanted = np.stack([c.wanted[0] for c in cycles])[rows]
    assert (allocated.sum(axis=1) <= capacity * (1 + 1e-9)).all()
    assert (wanted.sum(axis=1) > capacity).mean() > 0.5, "the pool is tight"

    def shortfall(given: FloatArray) -> float:
        return float((WEIGHTS * np.maximum(actual - given, 0)).sum())

    ratio = np.minimum(capacity / wanted.sum(axis=1, keepdims=True), 1.0)
    assert shortfall(allocated) < 0.5 * shortfall(np.broadcast_to(0.6 * LIMIT, actual.shape))
    assert shortfall(allocated) < shortfall(wanted * ratio)
    met = [1 - np.maximum(actual - allocated, 0)[:, w == WEIGHTS].sum() / actual[:, w == WEIGHTS].sum() for w in (4, 1)]
    assert met[0] > met[1]


def test_a_vm_of_which_nothing_is_known_leaves_the_pool_bounded() -> None:
    loop = DemandLoop(Resource.NET_RX, DemandSettings(300, horizons_seconds=()))
    limit = np.full(3, np.inf)
    usual = Conditions.default(limit, (0.01,))
    conditions = Conditions(usual.weight, usual.floor, usual.ceiling, usual.budget, usual.host_of_vm, np.array([1e3]))
    generator = np.random.default_rng(1)
    for i in range(20):
        cycle = loop.step(np.append(generator.gamma(2.0, 1e3, 2), np.nan), limit, i * 300, conditions)
        assert np.isnan(cycle.allocated[0, 2])
        assert np.nansum(cycle.allocated[0]) <= 1e3 * (1 + 1e-9)
