"""Holding: a band without moves, and never more changes than allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forestall.demand.holding import SMALLEST_CHANGE, Holding, HoldingSettings
from forestall.model.samples import FloatArray

FREE = np.array([np.inf])
NONE = np.array([0.0])


def _held(needed: list[float], cap: float = np.inf, floor: float = 0.0, **settings: float) -> list[float]:
    holding = Holding(1, 300, HoldingSettings(**settings))
    rows = [np.array([[n]]) for n in needed]
    return [float(holding.settle(n, n, np.array([cap]), np.array([floor]))[0, 0]) for n in rows]


def test_small_falls_are_not_worth_a_move_and_rises_are_followed() -> None:
    assert _held([1.0, 0.99, 0.985, 0.97, 0.975], band_ratio=0.02) == [1.0, 1.0, 1.0, 0.97, 0.975]


def test_the_cap_holds_at_once() -> None:
    holding = Holding(1, 300, HoldingSettings())
    high, low = np.array([[2.0]]), np.array([[1.0]])
    assert holding.settle(high, high, np.array([4.0]), NONE)[0, 0] == 2.0
    assert holding.settle(low, low, np.array([1.0]), NONE)[0, 0] == 1.0


def test_nothing_known_is_nothing_held() -> None:
    held = _held([np.nan, 1.0, np.nan, 2.0])
    assert np.isnan(held[0])
    assert held[1] == 1.0
    assert np.isnan(held[2])
    assert held[3] == 2.0


def test_a_floor_is_never_crossed_even_without_a_token() -> None:
    holding = Holding(1, 300, HoldingSettings(changes_per_vm_hour=0.1))
    for needed, floor in ((1.0, 0.0), (1.5, 0.0), (1.6, 0.0), (2.0, 2.0)):
        amount = np.array([[max(needed, floor)]])
        assert holding.settle(amount, amount, FREE, np.array([floor]))[0, 0] >= floor


def test_with_a_limit_it_lowers_to_what_lasts_and_keeps_a_reserve() -> None:
    holding = Holding(1, 300, HoldingSettings(changes_per_vm_hour=1.0, first_tokens=2.0))
    first = np.array([[4.0]])
    holding.settle(first, first, FREE, NONE)
    needed, lasting = np.array([[1.0]]), np.array([[2.0]])
    held = [float(holding.settle(needed, lasting, FREE, NONE)[0, 0]) for _ in range(48)]
    assert held[0] == 4.0, "to give back half, two tokens are too few"
    assert held[-1] == 2.0, "lowered to what lasts, not to what is needed now"
    assert held.index(2.0) >= 23, "not before the tokens are there"
    raised = np.array([[3.0]])
    assert holding.settle(raised, raised, FREE, NONE)[0, 0] == 3.0


@given(
    arrays(np.float64, (60, 2), elements=st.one_of(st.floats(0, 10), st.just(np.nan), st.just(0.0))),
    st.sampled_from([0.2, 1.0, 3.0, 40.0]),
    st.sampled_from([60, 300, 3600]),
)
@settings(max_examples=100)
def test_changes_never_exceed_what_is_allowed(needed: FloatArray, rate: float, step_seconds: int) -> None:
    options = HoldingSettings(changes_per_vm_hour=rate)
    holding = Holding(1, step_seconds, options)
    cap, floor = np.array([8.0, np.inf]), np.zeros(2)
    held = []
    for row in needed:
        wanted = np.minimum(row, cap)[None]
        held.append(holding.settle(wanted, wanted * 1.2, cap, floor)[0])
        known = ~np.isnan(row)
        assert (np.isnan(held[-1]) == ~known).all()
        assert (held[-1] <= cap)[known].all()
    series = np.stack(held)
    moved = np.abs(np.diff(series, axis=0)) > SMALLEST_CHANGE * np.abs(series[:-1])
    for end in range(1, len(moved) + 1):
        hours = end * step_seconds / 3600
        assert (moved[:end].sum(axis=0) <= rate * hours + options.burst).all()


@given(arrays(np.float64, (40, 3), elements=st.floats(0, 10)))
@settings(max_examples=60)
def test_without_a_limit_never_less_than_needed_nor_much_more(needed: FloatArray) -> None:
    holding = Holding(1, 300, HoldingSettings())
    cap, floor = np.full(3, 9.0), np.full(3, 0.5)
    for row in needed:
        asked = np.clip(row, floor, cap)
        held = holding.settle(asked[None], asked[None], cap, floor)[0]
        assert (held >= asked).all()
        assert (held * 0.98 <= asked * (1 + 1e-12)).all()


def test_budgets_stand_side_by_side() -> None:
    holding = Holding(2, 300, HoldingSettings())
    needed = np.array([[1.0], [2.0]])
    np.testing.assert_array_equal(holding.settle(needed, needed, FREE, NONE), needed)
    assert holding.in_force(3).shape == (2, 3)
    assert np.isnan(holding.in_force(3)[:, 1:]).all()


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_a_rise_waits_for_its_token(rate: float) -> None:
    held = _held([1.0, 2.0, 3.0, 3.0, 3.0], changes_per_vm_hour=rate, first_tokens=1.0)
    assert held[:3] == [1.0, 2.0, 2.0]
