"""The pool's own risk: VMs that peak together overload it more often than those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.demand.joint import JointRisk
from forestall.model.samples import FloatArray

VMS, MEDIAN, SPREAD = 10, 2.0, 0.5
HOST = np.zeros(VMS, np.int64)


def _errors(correlation: float, steps: int, seed: int = 1) -> FloatArray:
    generator = np.random.default_rng(seed)
    shared = generator.normal(0, 1, (steps, 1))
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * generator.normal(0, 1, (steps, VMS))


def _overload(correlation: float, capacity: float, cap: float = np.inf) -> float:
    model = JointRisk(memory_steps=2000)
    median, spread = np.full(VMS, MEDIAN), np.full(VMS, SPREAD)
    for row in _errors(correlation, 2000):
        model.learn(median + spread * row, median, spread)
    return float(model.overload(median, spread, np.full(VMS, cap), HOST, np.array([capacity]))[0])


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("capacity", [21.0, 23.0, 25.0])
def test_it_is_close_to_the_truth(correlation: float, capacity: float) -> None:
    totals = (MEDIAN + SPREAD * _errors(correlation, 50_000, seed=2)).sum(axis=1)
    assert _overload(correlation, capacity) == pytest.approx((totals > capacity).mean(), abs=0.03)


def test_the_same_marginals_together_are_a_greater_risk() -> None:
    assert _overload(0.9, 24.0) > 3 * _overload(0.0, 24.0) + 0.1


def test_limits_bound_what_can_happen() -> None:
    assert _overload(0.9, 24.0, cap=2.3) == 0.0


def test_hosts_are_apart_and_the_past_is_bounded() -> None:
    model = JointRisk(memory_steps=50)
    median, spread, host = np.full(4, 1.0), np.full(4, 1.0), np.array([0, 0, 1, 1])
    capacity, cap = np.array([3.0, np.inf]), np.full(4, np.inf)
    assert np.isnan(model.overload(median, spread, cap, host, capacity)).all()
    for i in range(100):
        model.learn(median + (5.0 if i < 50 else 0.0), median, spread)
    assert model.overload(median, spread, cap, host, capacity).tolist() == [0.0, 0.0]
    model.learn(median + 5.0, median, spread)
    assert model.overload(median, spread, cap, host, capacity).tolist() == [1 / 50, 0.0]


def test_gaps_and_newcomers_err_by_nothing() -> None:
    model = JointRisk(memory_steps=50)
    model.learn(np.array([np.nan, 9.0]), np.ones(2), np.ones(2))
    got = model.overload(np.ones(3), np.ones(3), np.full(3, np.inf), np.zeros(3, np.int64), np.array([10.0]))
    assert got.tolist() == [1.0]
    got = model.overload(np.full(3, np.nan), np.ones(3), np.full(3, np.inf), np.zeros(3, np.int64), np.array([10.0]))
    assert got.tolist() == [0.0]
