"""The decision core: every decision can be explained, floors and limits hold, cold VMs count at their limit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from forestall.demand.core import Conditions, Cycle, DemandLoop
from forestall.demand.explain import decision_of, reproduce
from forestall.demand.holding import HoldingSettings
from forestall.demand.settings import DemandSettings
from forestall.learning.boosted import BoostedSettings
from forestall.model.decision import Ruling
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray

LIMIT = np.array([4.0, 4.0, 2.0, 2.0, 1.0, 8.0])
BORN = np.array([0, 0, 0, 0, 30, 80])
QUICK = BoostedSettings(min_rows=200, rounds=5, first_training_seconds=6 * 3600)


def _demand(steps: int) -> FloatArray:
    generator = np.random.default_rng(2)
    load = 0.4 + 0.3 * np.sin(np.arange(steps)[:, None] / 20 + np.arange(6))
    demand = np.minimum(load * generator.lognormal(0, 0.3, (steps, 6)), 1.0) * LIMIT
    demand[generator.random(demand.shape) < 0.03] = np.nan
    return demand


def _cycles(
    settings: DemandSettings,
    capacity: FloatArray,
    floor: FloatArray,
    steps: int = 100,
    resource: Resource = Resource.CPU,
) -> Iterator[Cycle]:
    loop = DemandLoop(resource, settings)
    weight = np.array([4.0, 1.0, 2.0, 1.0, 0.5, 1.0])
    for i, row in enumerate(_demand(steps)):
        n = int((i >= BORN).sum())
        limit = np.where(i % 50 == 49, 0.5, 1.0) * LIMIT[:n] if resource is Resource.CPU else np.full(n, np.inf)
        usual = Conditions.default(limit, settings.budgets)
        host = np.arange(n, dtype=np.int64) % len(capacity)
        conditions = Conditions(weight[:n], np.minimum(floor[:n], limit), usual.ceiling, usual.budget, host, capacity)
        yield loop.step(row[:n], limit, i * 300, conditions)


@pytest.mark.parametrize(
    ("capacity", "floor", "rate", "resource"),
    [
        ([4.0, 3.0], 0.3, None, Resource.CPU),
        ([4.0, 3.0], 0.3, 1.0, Resource.CPU),
        ([1.0, 1.5], 1.5, None, Resource.CPU),
        ([np.inf, 2.5], 0.0, None, Resource.NET_RX),
    ],
    ids=["tight", "tight and few changes", "floors do not fit", "no limits"],
)
def test_every_decision_can_be_reproduced(
    capacity: list[float], floor: float, rate: float | None, resource: Resource
) -> None:
    settings = DemandSettings(
        300,
        budgets=(0.05, 0.01),
        horizons_seconds=(300,),
        boosted=QUICK,
        holding=HoldingSettings(changes_per_vm_hour=rate),
    )
    clipped = decided = 0
    before: dict[str, float] = {}
    for cycle in _cycles(settings, np.array(capacity), np.full(6, floor), resource=resource):
        n = cycle.allocated.shape[1]
        totals = np.bincount(np.arange(n) % 2, np.nan_to_num(cycle.allocated[1]), 2)
        assert (totals <= np.array(capacity) * (1 + 1e-9)).all()
        for vm in range(n):
            decision = decision_of(cycle, vm, f"vm-{vm}", resource, settings, budget=1)
            assert reproduce(decision) == pytest.approx(decision.allocated, rel=1e-9, abs=1e-12, nan_ok=True)
            assert decision.previous == pytest.approx(before.get(decision.vm_id, np.nan), nan_ok=True)
            before[decision.vm_id] = decision.allocated
            assert decision.reason
            clipped += decision.ruling is Ruling.CLIPPED and "tight" in decision.reason
            decided += 1
    assert decided == sum(100 - b for b in BORN)
    assert clipped > 0.1 * decided


def test_the_limit_of_a_decision_is_the_limit_and_not_the_ceiling_of_a_policy() -> None:
    settings = DemandSettings(300, horizons_seconds=(300,))
    loop = DemandLoop(Resource.CPU, settings)
    usual = Conditions.default(np.array([4.0]), settings.budgets)
    capped = Conditions(usual.weight, usual.floor, np.array([1.0]), usual.budget, usual.host_of_vm, usual.capacity)
    for i in range(10):
        cycle = loop.step(np.array([2.0]), np.array([4.0]), i * 300, capped)
    decision = decision_of(cycle, 0, "a", Resource.CPU, settings)
    assert (decision.limit, decision.ceiling, decision.allocated) == (4.0, 1.0, 1.0)
    assert decision.reason == "the limit or the policy's ceiling"


def test_cold_vms_count_at_their_limit() -> None:
    settings = DemandSettings(300, horizons_seconds=(300,))
    for i, cycle in enumerate(_cycles(settings, np.array([np.inf]), np.zeros(6), steps=12)):
        if i < settings.cold_steps - 2:
            np.testing.assert_array_equal(cycle.allocated[0], LIMIT[:4])
            assert cycle.cold.all()


def test_floor_and_limit_hold_always_and_lead_is_kept() -> None:
    settings = DemandSettings(300, lead_steps=3, horizons_seconds=(300, 900))
    for cycle in _cycles(settings, np.array([np.inf]), np.full(6, 0.8)):
        given = cycle.allocated[0]
        assert (given >= np.minimum(0.8, cycle.limit) * (1 - 1e-12)).all()
        assert (given <= cycle.limit).all()
        assert cycle.risk.shape == (2, 2, len(given))
        risk = cycle.risk[~np.isnan(cycle.risk)]
        assert ((risk >= 0) & (risk <= 1)).all()
        decision = decision_of(cycle, 0, "a", Resource.CPU, settings)
        assert decision.in_force_at == decision.decided_at + 900


def test_a_heavier_vm_keeps_a_stricter_promise() -> None:
    settings = DemandSettings(300, horizons_seconds=())
    loop = DemandLoop(Resource.CPU, settings)
    generator = np.random.default_rng(3)
    limit = np.full(2, 8.0)
    usual = Conditions.default(limit, settings.budgets)
    conditions = Conditions(
        np.array([8.0, 1.0]), usual.floor, usual.ceiling, usual.budget, usual.host_of_vm, usual.capacity
    )
    total = np.zeros(2)
    for i in range(150):
        value = generator.gamma(2.0, 0.5)
        total += loop.step(np.array([value, value]), limit, i * 300, conditions).allocated[0]
    assert total[0] > total[1]


@pytest.mark.parametrize(
    ("rate", "gone", "tolerance"),
    [(1.0, 0, 1e-6), (None, 0, 1e-6), (None, 30, 1e-3)],
    ids=["few changes", "never seen", "the fleet has learned from them"],
)
def test_forgetting_vms_changes_nothing_for_the_others(rate: float | None, gone: int, tolerance: float) -> None:
    holding = HoldingSettings(changes_per_vm_hour=rate)
    never = BoostedSettings(first_training_seconds=10**9)
    settings = DemandSettings(300, lead_steps=3, budgets=(0.05, 0.01), boosted=never, holding=holding)
    kept, others, at = np.array([1, 3, 4]), np.array([0, 2, 5]), 100
    demand = _demand(at + 30)
    demand[gone:, others] = np.nan
    whole, some = DemandLoop(Resource.CPU, settings), DemandLoop(Resource.CPU, settings)
    host = np.where(np.isin(np.arange(6), others), 1, 0).astype(np.int64)
    for i, row in enumerate(demand):
        n = 6 if i > at - 2 else 5  # the last one came shortly before
        usual = Conditions.default(LIMIT[:n], settings.budgets)
        given = Conditions(usual.weight, usual.floor, usual.ceiling, usual.budget, host[:n], np.array([4.0, np.inf]))
        expected = whole.step(row[:n], LIMIT[:n], i * 300, given)
        if i < at:
            cycle = some.step(row[:n], LIMIT[:n], i * 300, given)
            continue
        if i == at:
            some.keep(kept)
            before = cycle.allocated[:, kept]
        usual = Conditions.default(LIMIT[kept], settings.budgets)
        alone = Conditions(usual.weight, usual.floor, usual.ceiling, usual.budget, host[kept], np.array([4.0, np.inf]))
        cycle = some.step(row[kept], LIMIT[kept], i * 300, alone)
        np.testing.assert_array_equal(cycle.previous, before)
        before = cycle.allocated
        np.testing.assert_array_equal(cycle.cold, expected.cold[kept])
        np.testing.assert_allclose(cycle.wanted, expected.wanted[:, kept], rtol=tolerance)
        np.testing.assert_allclose(cycle.allocated, expected.allocated[:, kept], rtol=tolerance)
        np.testing.assert_allclose(cycle.risk, expected.risk[:, :, kept], atol=tolerance)
        np.testing.assert_allclose(cycle.price, expected.price, atol=tolerance)
        np.testing.assert_allclose(cycle.overload, expected.overload, atol=tolerance)
