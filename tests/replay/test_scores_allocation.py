"""Allocation scores against values worked out by hand, and against what must hold for any trace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from forestall.replay.scores import totals as totals_module
from forestall.replay.scores.allocation import score_allocation

NAN, INF = float("nan"), float("inf")


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_hand_computed_scores() -> None:
    demand = column(1.0, 2.0, 5.0, NAN, 3.0)
    limit = column(4.0, 4.0, 4.0, 4.0, 4.0)
    allocated = column(2.0, 1.99, 9.0, 0.0, NAN)
    scores = score_allocation(demand, limit, allocated, 300)
    # demand counts as 1 2 4 - 3, the allocation as 2 1.99 4 - 4
    assert scores.intervals == 4
    assert scores.violation_share == pytest.approx(1 / 4)
    assert scores.material_share == 0.0  # 0.01 short of a limit of 4 is under 1 %
    assert scores.severity == pytest.approx(0.01 / 10)
    assert scores.slack == pytest.approx((11.99 - 10) / 10)
    assert scores.reclaimed_share == pytest.approx(1 - 11.99 / 16)
    assert scores.worst_vm_share == scores.p95_vm_share == pytest.approx(0.25)
    assert scores.over_twice_share == 1.0
    assert scores.fairness == pytest.approx(1.0)


def test_a_shortage_within_tolerance_is_no_violation() -> None:
    scores = score_allocation(column(1.0 + 5e-10), column(2.0), column(1.0), 300)
    assert scores.violation_share == 0.0


def test_material_violation_is_measured_on_the_limit() -> None:
    demand, limit = column(1.0, 1.0), column(4.0, 4.0)
    assert score_allocation(demand, limit, column(0.95, 0.97), 300).material_share == 0.5


def test_no_limit_and_no_allocation_is_neither_violated_nor_slack() -> None:
    scores = score_allocation(column(10.0, 10.0), column(INF, INF), column(NAN, 15.0), 300)
    assert scores.intervals == 2
    assert scores.violation_share == 0.0
    assert scores.slack == pytest.approx(0.5)
    assert np.isnan(scores.reclaimed_share)
    assert np.isnan(scores.material_share)


def test_a_vm_that_is_off_is_never_in_violation() -> None:
    scores = score_allocation(column(1.0, 0.0), column(0.0, 0.0), column(0.0, 2.0), 300)
    assert scores.violation_share == 0.0
    assert np.isnan(scores.slack)


def test_spread_over_vms() -> None:
    demand = np.ones((100, 4))
    allocated = np.full((100, 4), 2.0)
    allocated[:3, 0] = 0.5  # 3 %
    allocated[:2, 1] = 0.5  # 2 %: exactly twice the budget is not over it
    scores = score_allocation(demand, np.full((100, 4), 4.0), allocated, 300, budget=0.01)
    assert scores.violation_share == pytest.approx(5 / 400)
    assert scores.over_twice_share == 0.25
    assert scores.worst_vm_share == pytest.approx(0.03)
    assert scores.p95_vm_share == pytest.approx(np.quantile([0.03, 0.02, 0, 0], 0.95))


def test_fairness_of_one_vm_served_and_one_starved() -> None:
    scores = score_allocation(np.ones((5, 2)), np.ones((5, 2)), np.tile([1.0, 0.0], (5, 1)), 300)
    assert scores.fairness == pytest.approx(0.5)


def test_churn_counts_changes_and_reversals() -> None:
    allocated = column(1.0, 1.005, 1.5, 1.5, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5)
    scores = score_allocation(np.zeros((12, 1)), column(*[4.0] * 12), allocated, 300)
    # up at 2, down at 4 (10 minutes later: a reversal), up at 8 (20 minutes later: none); one VM-hour
    assert scores.changes_per_vm_hour == pytest.approx(3.0)
    assert scores.reversals_per_vm_hour == pytest.approx(1.0)


def test_churn_compares_across_gaps_and_leaves_out_moves_of_the_limit() -> None:
    demand = column(0.1, NAN, 0.1, 0.1)
    limit = column(4.0, NAN, 4.0, 2.0)
    scores = score_allocation(demand, limit, column(3.0, 1.0, 3.5, 3.5), 1200)
    assert scores.changes_per_vm_hour == pytest.approx(1.0)  # 3 -> 3.5; then 3.5 -> 2 came with the limit


def test_blocks_of_vms_give_the_same_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    demand, limit, allocated = rng.random((50, 7)), np.ones((50, 7)), rng.random((50, 7))
    whole = score_allocation(demand, limit, allocated, 300)
    monkeypatch.setattr(totals_module, "_BLOCK_CELLS", 100)
    blocks = score_allocation(demand, limit, allocated, 300)
    assert blocks.per_vm.violations.tolist() == whole.per_vm.violations.tolist()
    assert blocks.slack == pytest.approx(whole.slack)
    assert blocks.fairness == pytest.approx(whole.fairness)


shapes = st.tuples(st.integers(1, 12), st.integers(1, 5))
eighths = st.integers(0, 128).map(lambda n: n / 8)
amounts = st.one_of(st.just(NAN), eighths)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = draw(shapes)
    demand = draw(hnp.arrays(np.float64, shape, elements=amounts))
    limit = draw(hnp.arrays(np.float64, shape, elements=eighths))
    return demand, limit, draw(hnp.arrays(np.float64, shape, elements=amounts))


@given(cases())
@settings(max_examples=60)
def test_oracle_wastes_nothing_and_never_violates(case: tuple[np.ndarray, ...]) -> None:
    demand, limit, _ = case
    scores = score_allocation(demand, limit, np.minimum(demand, limit), 300)
    assert scores.violation_share == 0 or np.isnan(scores.violation_share)
    assert np.isnan(scores.slack) or scores.slack == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(scores.severity) or scores.severity == 0


@given(cases())
@settings(max_examples=60)
def test_static_never_violates_reclaims_nothing_and_never_moves(case: tuple[np.ndarray, ...]) -> None:
    demand, limit, _ = case
    for allocated in (limit, np.full(limit.shape, NAN)):
        scores = score_allocation(demand, limit, allocated, 300)
        assert not scores.violation_share > 0
        assert not abs(scores.reclaimed_share) > 0
        assert not scores.changes_per_vm_hour > 0


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_order_of_vms_does_not_matter(case: tuple[np.ndarray, ...], random: object) -> None:
    order = list(range(case[0].shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain = score_allocation(*case, 300)
    shuffled = score_allocation(*(a[:, order] for a in case), 300)
    for name in plain.__dataclass_fields__:
        if name != "per_vm":
            assert getattr(shuffled, name) == pytest.approx(getattr(plain, name), nan_ok=True, abs=1e-9)
