"""Pacing: each VM's budget is spent in the long run, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from forestall.learning.calibration import Recalibration
from forestall.learning.pacing import Pacer, PacingSettings
from forestall.model.forecast import LEVELS
from forestall.model.samples import FloatArray

TRUE = stats.gamma(2.0).ppf(LEVELS)
WRONG = {
    "right": TRUE,
    "too low": 0.6 * TRUE,
    "too high": 1.4 * TRUE,
    "far too high": 3.0 * TRUE,
    "another shape": np.maximum(stats.norm(2, 1).ppf(LEVELS), 0),
}
VMS, STEPS = 5, 5000


def _shares(issued: FloatArray, budget: FloatArray, *, calibrated: bool, seed: int = 0) -> tuple[FloatArray, float]:
    """Violation share (budget, vm) of the last two thirds, and the mean allocation of the first budget."""
    generator = np.random.default_rng(seed)
    pacer, recalibration = Pacer(len(budget), LEVELS, PacingSettings()), Recalibration(LEVELS, 288)
    recalibration.grow(VMS)
    violations, allocated = np.zeros(budget.shape), 0.0
    for i in range(STEPS):
        unsure = generator.lognormal(0, 0.5, VMS)
        quantiles, actual = issued * unsure[:, None], generator.gamma(2.0, 1.0, VMS) * unsure
        used = recalibration.apply(quantiles) if calibrated else quantiles
        pace = pacer.choose(used, budget, np.full(VMS, 2.0), np.full(VMS, np.inf))
        violated = actual > pace.amount
        pacer.learn(violated, np.ones(VMS, bool), budget)
        recalibration.update(quantiles, actual)
        if i >= STEPS // 3:
            violations += violated
            allocated += pace.amount[0].mean()
    return violations / (STEPS - STEPS // 3), allocated / (STEPS - STEPS // 3)


@pytest.mark.parametrize("kind", WRONG)
def test_every_vm_spends_its_budget_however_wrong_the_forecast(kind: str) -> None:
    budget = np.repeat([[0.05], [0.01]], VMS, axis=1)
    shares, _ = _shares(WRONG[kind], budget, calibrated=True)
    assert (np.abs(shares - budget) <= 0.25 * budget + 0.001).all(), shares


@pytest.mark.parametrize("kind", ["right", "too high"])
def test_the_pacer_alone_corrects_what_lies_within_its_span(kind: str) -> None:
    budget = np.repeat([[0.05], [0.01]], VMS, axis=1)
    shares, _ = _shares(WRONG[kind], budget, calibrated=False)
    assert (np.abs(shares - budget) <= 0.35 * budget).all(), shares


def test_each_vm_has_its_own_budget() -> None:
    budget = np.array([[0.2, 0.1, 0.05, 0.02, 0.01]])
    shares, _ = _shares(TRUE, budget, calibrated=True)
    assert (np.abs(shares - budget) <= 0.2 * budget + 0.001).all(), shares


def test_violations_are_spent_where_they_save_most() -> None:
    budget = np.full((1, VMS), 0.05)
    _, paced = _shares(TRUE, budget, calibrated=False)
    fixed = stats.gamma(2.0).ppf(0.95) * np.exp(0.125)
    assert paced < fixed


def _pacer(
    quantiles: FloatArray, budget: float, cap: float = np.inf, learned: int = 0
) -> tuple[FloatArray, FloatArray]:
    pacer = Pacer(1, LEVELS, PacingSettings())
    vms = len(quantiles)
    budgets = np.full((1, vms), budget)
    for _ in range(learned):
        pacer.choose(quantiles, budgets, np.ones(vms), np.full(vms, cap))
        pacer.learn(np.ones((1, vms), bool), np.ones(vms, bool), budgets)
    pace = pacer.choose(quantiles, budgets, np.ones(vms), np.full(vms, cap))
    return pace.amount, pace.probability


def test_the_amount_is_the_quantile_at_the_probability() -> None:
    amount, probability = _pacer(TRUE[None], 0.01)
    exact = np.interp(
        np.log(probability / (1 - probability)), np.log((1 - np.array(LEVELS)) / LEVELS)[::-1], TRUE[::-1]
    )
    np.testing.assert_allclose(amount, exact, rtol=1e-9)


def test_a_violation_raises_the_price() -> None:
    assert (_pacer(TRUE[None], 0.01, learned=5)[0] > _pacer(TRUE[None], 0.01)[0]).all()


def test_a_cap_holds_and_nothing_known_is_nothing_said() -> None:
    unknown = np.full((1, len(LEVELS)), np.nan)
    amount, probability = _pacer(np.concatenate([TRUE[None], unknown]), 0.01, cap=1.5)
    assert amount[0, 0] == 1.5
    assert np.isnan(amount[0, 1])
    assert np.isfinite(probability).all()


def test_gaps_and_newcomers_leave_the_others_alone() -> None:
    pacer = Pacer(1, LEVELS, PacingSettings())
    one, two = np.full((1, 1), 0.01), np.full((1, 2), 0.01)
    first = pacer.choose(TRUE[None], one, np.ones(1), np.full(1, np.inf))
    pacer.learn(np.ones((1, 1), bool), np.zeros(1, bool), one)
    again = pacer.choose(np.stack([TRUE, TRUE]), two, np.ones(2), np.full(2, np.inf))
    assert again.amount[0, 0] == pytest.approx(first.amount[0, 0], rel=1e-9)
    assert again.amount[0, 1] == pytest.approx(first.amount[0, 0], rel=1e-9)


def test_a_constant_needs_no_more_than_itself() -> None:
    amount, _ = _pacer(np.full((1, len(LEVELS)), 0.7), 0.001)
    assert amount[0, 0] == pytest.approx(0.7)


def _burning(unusual: bool, violations: int, after: int = 0) -> tuple[Pacer, FloatArray]:
    """A VM that did well for long, and then fell short ``violations`` times in a row."""
    pacer, budget, one = Pacer(1, LEVELS, PacingSettings()), np.full((1, 1), 0.05), np.ones(1, bool)
    for i in range(500 + violations + after):
        pacer.choose(TRUE[None], budget, np.ones(1), np.full(1, np.inf))
        pacer.learn(np.full((1, 1), 500 <= i < 500 + violations), one, budget, np.array([unusual]))
    pace = pacer.choose(TRUE[None], budget, np.ones(1), np.full(1, 20.0), used=np.full(1, 9.0))
    return pacer, pace.amount[0]


def test_a_vm_that_burns_its_budget_holds_what_it_used() -> None:
    assert _burning(unusual=True, violations=4)[1] == pytest.approx([9.0])
    assert _burning(unusual=True, violations=2)[1] < 9.0, "two may be chance"
    assert _burning(unusual=False, violations=4)[1] < 9.0, "and so may four, where nothing is unusual"
    assert _burning(unusual=True, violations=4, after=30)[1] < 9.0, "it is over when the share is back"


def test_a_cap_holds_for_what_was_used_too() -> None:
    pacer, _ = _burning(unusual=True, violations=4)
    pace = pacer.choose(TRUE[None], np.full((1, 1), 0.05), np.ones(1), np.full(1, 5.0), used=np.full(1, 9.0))
    assert pace.amount[0, 0] == pytest.approx(5.0)
    pacer.keep(np.array([], np.int64))
    assert pacer.choose(np.empty((0, len(LEVELS))), np.empty((1, 0)), np.empty(0), np.empty(0)).amount.shape == (1, 0)
