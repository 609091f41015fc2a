"""Risk: calibrated, better than the base rate, and aware of what a VM usually does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from forestall.demand.risk import RiskModel
from forestall.model.samples import BoolArray, FloatArray

LIMIT = 2.0


def _peak_after(above: BoolArray, horizon: int) -> BoolArray:
    return np.stack([above[1 + s : len(above) - horizon + 1 + s] for s in range(horizon)]).any(axis=0)


def _world(steps: int = 2500, vms: int = 12) -> tuple[FloatArray, FloatArray]:
    """Demand (time, vm), AR(1) around levels of their own, and the true chance that the next exceeds the limit."""
    generator = np.random.default_rng(1)
    level, keep = generator.uniform(0.3, 1.6, vms), 0.9
    state, demand, chance = np.zeros(vms), [], []
    for _ in range(steps):
        state = keep * state + generator.normal(0, 0.2, vms)
        demand.append(level + state)
        chance.append(stats.norm.sf(LIMIT, level + keep * state, 0.2))
    return np.array(demand), np.array(chance)


def _brier(stated: FloatArray, truth: BoolArray) -> float:
    return float(np.mean((stated - truth) ** 2))


@pytest.mark.parametrize("distortion", [1.0, 0.4, 2.5])
def test_risk_is_calibrated_also_when_the_forecast_is_not(distortion: float) -> None:
    demand, chance = _world()
    model, above = RiskModel(1, 288), demand > LIMIT
    odds = distortion * np.log(np.clip(chance, 1e-5, 1 - 1e-5) / (1 - np.clip(chance, 1e-5, 1 - 1e-5)))
    given = 1 / (1 + np.exp(-odds))
    seen = np.ones(demand.shape[1], bool)
    stated = np.stack([model.step(g, a, seen) for g, a in zip(given, above, strict=True)])[500:-1]
    truth = above[501:]
    assert stated.mean() == pytest.approx(truth.mean(), rel=0.15)
    for low, high in ((0.02, 0.2), (0.2, 0.5), (0.5, 0.95)):
        inside = (stated >= low) & (stated < high)
        assert truth[inside].mean() == pytest.approx(stated[inside].mean(), abs=0.08), (low, high)
    assert 1 - _brier(stated, truth) / _brier(np.full(truth.shape, truth.mean()), truth) > 0.2


def test_the_own_rate_of_a_vm_counts_where_the_forecast_says_nothing() -> None:
    steps, horizon = 1500, 12
    time = np.arange(steps)
    above = np.stack([time % 12 == 0, time % 120 == 0, np.zeros(steps, bool), np.zeros(steps, bool)], axis=1)
    model, seen = RiskModel(horizon, 288), np.ones(4, bool)
    stated = np.stack([model.step(np.full(4, 0.01), row, seen) for row in above])[-400:-horizon]
    assert stated[:, 0].mean() > 0.8, "it exceeds its limit every hour"
    assert stated[:, 1].mean() == pytest.approx(0.1, abs=0.08)
    assert stated[:, 2:].mean() < 0.02
    truth = _peak_after(above, horizon)[-388:]
    assert 1 - _brier(stated, truth) / _brier(np.full(truth.shape, truth.mean()), truth) > 0.5


def test_it_learns_from_what_lies_behind_only() -> None:
    demand, chance = _world(200, 4)
    above, seen = demand > 1.2, np.ones(4, bool)
    other = above.copy()
    other[150:] = ~other[150:]
    first, second = RiskModel(6, 288), RiskModel(6, 288)
    for i in range(150):
        a, b = first.step(chance[i], above[i], seen), second.step(chance[i], other[i], seen)
        np.testing.assert_array_equal(a, b)


def test_gaps_newcomers_and_silence() -> None:
    model = RiskModel(3, 288)
    for i in range(40):
        vms = 2 + (i >= 20)
        stated = model.step(np.full(vms, 0.1), np.zeros(vms, bool), np.full(vms, i % 3 > 0))
        assert stated.shape == (vms,)
        assert ((stated >= 0) & (stated <= 1)).all()
    assert np.isnan(model.step(np.array([np.nan, 0.1, 0.1]), np.zeros(3, bool), np.ones(3, bool))[0])
