"""Host scores against values worked out by hand."""

import numpy as np
import pytest

from forestall.replay.scores.host import host_sums, score_hosts

NAN = float("nan")


def test_hand_computed_scores() -> None:
    demand = np.array([[1.0, 2.0, 1.0], [2.0, NAN, 1.0]])
    allocated = np.array([[1.0, 1.0, 2.0], [2.0, 3.0, NAN]])
    scores = score_hosts(demand, allocated, np.array([2.5, 4.0, 1.0]), np.array([0, 0, 1]), np.array([1.0, 3, 1]))
    assert scores.host_overload_share == pytest.approx((0.5, 0.0, NAN), nan_ok=True)
    assert scores.overload_share == 0.25
    assert scores.host_max_allocated_ratio == pytest.approx((2.0, 0.5, NAN), nan_ok=True)
    assert scores.max_allocated_ratio == 2.0
    assert scores.host_weighted_shortfall == pytest.approx((3 / 9, 1 / 2, NAN), nan_ok=True)
    assert scores.weighted_shortfall == pytest.approx((3 + 1) / (9 + 2))


def test_sums_by_host() -> None:
    values = np.array([[1.0, 2.0, NAN]])
    assert host_sums(values, np.array([1, 0, 1]), 3).tolist() == [[2.0, 1.0, 0.0]]


def test_order_of_vms_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    demand, allocated = rng.random((20, 6)), rng.random((20, 6))
    host, weight, order = rng.integers(0, 2, 6), rng.random(6) + 0.1, rng.permutation(6)
    plain = score_hosts(demand, allocated, np.array([2.0, 2.0]), host, weight)
    mixed = score_hosts(demand[:, order], allocated[:, order], np.array([2.0, 2.0]), host[order], weight[order])
    assert mixed.overload_share == plain.overload_share
    assert mixed.host_weighted_shortfall == pytest.approx(plain.host_weighted_shortfall)
