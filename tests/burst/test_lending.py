from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.burst.lending import Lending, LendingSettings, among, whole

SETTINGS = LendingSettings(step_cores=0.05, patience=2, allowed_share=0.02, first_hold=2, longest_hold=16, memory=100)


def settled(reserved: float, *, cores: float = 4.0) -> Lending:
    lending = Lending(SETTINGS)
    for _ in range(3):
        lending.settle(reserved, cores)
    return lending


def test_more_is_lent_only_when_it_lasts() -> None:
    lending = Lending(SETTINGS)
    first, second = lending.settle(1.0, 4.0), lending.settle(1.0, 4.0)
    assert (first.lent, first.free) == (0.0, 3.0)
    assert "lasts" in first.reason
    assert (second.lent, second.free, second.reason) == (3.0, 0.0, "")


def test_of_two_offers_the_smaller_is_lent() -> None:
    lending = Lending(SETTINGS)
    lending.settle(1.0, 4.0)
    assert lending.settle(2.0, 4.0).lent == 2.0


def test_less_is_lent_at_once() -> None:
    lending = settled(1.0)
    assert lending.settle(3.5, 4.0).lent == 0.5
    assert lending.settle(5.0, 4.0).lent == 0.0


def test_a_small_change_upwards_is_left() -> None:
    lending = settled(1.0)
    assert [lending.settle(0.97, 4.0).lent for _ in range(3)] == [3.0, 3.0, 3.0]


def held_for(lending: Lending, decisions: int = 20) -> int:
    """How many decisions after a miss lend nothing."""
    lending.miss("a lender was short")
    assert lending.lent == 0.0
    loans = [lending.settle(1.0, 4.0) for _ in range(decisions)]
    assert "short" in loans[0].reason
    return next(k for k, loan in enumerate(loans) if loan.lent > 0)


def test_misses_that_are_allowed_cost_little_and_each_one_more_doubles_it() -> None:
    lending = settled(1.0)
    held = [held_for(lending) for _ in range(5)]
    assert held[0] == held[1] == SETTINGS.first_hold
    assert [later - held[0] for later in held[2:]] == [2, 6, 14]
    assert lending.misses == 5


def test_it_is_never_held_for_longer_than_the_longest() -> None:
    lending = settled(1.0)
    held = [held_for(lending, 18) for _ in range(5)]
    assert max(held) <= SETTINGS.longest_hold + SETTINGS.patience - 1


def test_misses_are_forgotten() -> None:
    lending = settled(1.0)
    first = [held_for(lending) for _ in range(4)]
    for _ in range(SETTINGS.memory):
        lending.settle(1.0, 4.0)
    assert held_for(lending) == first[0] < first[3]


def test_misses_in_one_beat_count_once() -> None:
    lending = settled(1.0)
    lending.miss("a lender was short")
    lending.miss("a lender was short")
    assert lending.misses == 1


@given(
    st.lists(st.one_of(st.none(), st.floats(0.0, 10.0)), min_size=1, max_size=60),
    st.floats(0.5, 16.0),
)
def test_never_more_is_lent_than_is_not_reserved(reserved: list[float | None], cores: float) -> None:
    lending = Lending(SETTINGS)
    for amount in reserved:
        if amount is None:
            lending.miss("a lender was short")
            continue
        loan = lending.settle(amount, cores)
        assert 0.0 <= loan.lent <= max(cores - amount, 0.0)
        assert loan.lent + loan.free == pytest.approx(max(cores - amount, 0.0))


def test_shares_go_by_weight_and_end_at_what_each_may_have() -> None:
    assert among(3.0, np.array([1.0, 2.0]), np.array([9.0, 9.0])).tolist() == [1.0, 2.0]
    assert among(3.0, np.array([1.0, 2.0]), np.array([9.0, 1.0])).tolist() == [2.0, 1.0]
    assert among(0.0, np.array([1.0]), np.array([1.0])).tolist() == [0.0]


@given(
    st.floats(0.0, 20.0),
    st.lists(st.tuples(st.floats(0.1, 9.0), st.floats(0.1, 8.0)), min_size=1, max_size=8),
)
def test_all_is_shared_out_or_everybody_is_full(lent: float, borrowers: list[tuple[float, float]]) -> None:
    weight, most = (np.array(column) for column in zip(*borrowers, strict=True))
    shares = among(lent, weight, most)
    assert (shares <= most + 1e-9).all()
    assert shares.sum() == pytest.approx(min(lent, most.sum()))


def test_whole_cores_are_never_more_than_is_lent_and_a_little_stays_a_little() -> None:
    assert whole(np.array([0.05, 0.5, 1.0, 1.4, 1.9, 3.0])).tolist() == [0.05, 0.5, 1.0, 1.0, 1.0, 3.0]
