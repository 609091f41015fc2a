"""Policies compared at equal violations."""

import numpy as np
import pytest

from forestall.replay.scores.allocation import score_allocation
from forestall.replay.scores.curve import bootstrap, compare, slack_at

NAN = float("nan")


def test_interpolates_linearly_in_the_logarithm() -> None:
    slack = slack_at(np.array([0.001, 0.1]), np.array([3.0, 1.0]), (0.001, 0.01, 0.1))
    assert slack == pytest.approx([3.0, 2.0, 1.0])


def test_never_extrapolates() -> None:
    slack = slack_at(np.array([0.002, 0.02]), np.array([2.0, 1.0]), (0.05, 0.01, 0.001))
    assert np.isnan(slack[0])
    assert np.isnan(slack[2])
    assert 1.0 < slack[1] < 2.0


def test_a_single_setting_answers_only_for_itself() -> None:
    assert slack_at(np.array([0.01]), np.array([0.7]), (0.05, 0.01)) == pytest.approx([NAN, 0.7], nan_ok=True)


def test_dominated_settings_do_not_raise_the_curve() -> None:
    share, slack = np.array([0.03, 0.001, 0.01]), np.array([2.0, 1.5, 1.0])
    assert slack_at(share, slack, (0.03, 0.01, 0.001)) == pytest.approx([1.0, 1.0, 1.5])


def test_undefined_settings_are_left_out() -> None:
    share, slack = np.array([0.001, NAN, 0.1, 0.05]), np.array([3.0, 0.1, 1.0, NAN])
    assert slack_at(share, slack, (0.01,)) == pytest.approx([2.0])


def test_no_violation_stands_at_the_floor() -> None:
    slack = slack_at(np.array([0.0, 0.1]), np.array([3.0, 1.0]), (0.01,), floor=0.001)
    assert slack == pytest.approx([2.0])


def test_many_curves_at_once() -> None:
    share = np.array([[0.001, 0.1], [0.1, 0.001]])
    assert slack_at(share, np.array([[3.0, 1.0], [1.0, 3.0]]), (0.01,)) == pytest.approx(np.array([[2.0], [2.0]]))


def fleet(vms: int) -> list[object]:
    rng = np.random.default_rng(3)
    demand = rng.gamma(2.0, 1.0, (300, vms)) * rng.lognormal(0, 0.3, vms)
    limit = np.full(demand.shape, 50.0)
    levels = (0.8, 0.9, 0.97, 0.995, 0.9995)
    return [
        score_allocation(demand, limit, np.broadcast_to(np.quantile(demand, q, axis=0), demand.shape), 300).per_vm
        for q in levels
    ]


def test_interval_holds_the_estimate_and_shrinks_with_more_vms() -> None:
    few = compare(fleet(20), np.random.default_rng(1), replicates=300)  # type: ignore[arg-type]
    many = compare(fleet(200), np.random.default_rng(1), replicates=300)  # type: ignore[arg-type]
    for rows in (few, many):
        assert all(row.low <= row.slack <= row.high for row in rows[:3])
    assert many[1].high - many[1].low < few[1].high - few[1].low
    assert [row.violation_share for row in few] == [0.05, 0.01, 0.005, 0.001]


def test_same_generator_same_interval() -> None:
    runs = [compare(fleet(20), np.random.default_rng(7), replicates=50) for _ in range(2)]  # type: ignore[arg-type]
    assert repr(runs[0]) == repr(runs[1])


def test_identical_vms_have_no_spread() -> None:
    sums = [np.repeat(np.array([[a], [b]]), 5, axis=1) for a, b in ((1.0, 10.0), (100, 100), (30, 20), (10, 10))]
    low, high = bootstrap(*sums, np.random.default_rng(0), (0.05,), replicates=20)
    assert low == pytest.approx(high)
    assert low == pytest.approx(2.0 + (1.0 - 2.0) * np.log(5) / np.log(10))
