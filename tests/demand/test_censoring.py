"""What a capped VM would have used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.demand.censoring import DEFAULTS, MOST_IN_A_ROW, CensoringSettings, Uncensored, uncensor
from forestall.model.resources import Resource

SETTINGS = CensoringSettings()
NONE = np.zeros(0, np.int64)


def one(seen: float, held: float, limit: float, in_a_row: int = 0, throttled: float | None = None) -> Uncensored:
    shares = None if throttled is None else np.array([throttled])
    return uncensor(np.array([seen]), np.array([held]), np.array([limit]), np.array([in_a_row]), SETTINGS, shares)


def test_a_vm_below_its_cap_is_taken_at_its_word() -> None:
    found = one(0.97, 1.0, 4.0, in_a_row=3)
    assert (found.demand[0], found.capped[0], found.in_a_row[0]) == (0.97, False, 0)


def test_a_vm_at_its_cap_is_taken_to_need_more_and_ever_more() -> None:
    guesses, row = [], 0
    for _ in range(3):
        found = one(1.0, 1.0, 4.0, row)
        guesses.append(float(found.demand[0]))
        row = int(found.in_a_row[0])
    np.testing.assert_allclose(guesses, [1.1, 1.65, 2.475])


def test_no_vm_is_taken_to_need_more_than_its_limit() -> None:
    assert one(1.0, 1.0, 1.05).demand[0] == 1.05
    assert one(1.0, 1.0, 4.0, in_a_row=MOST_IN_A_ROW).demand[0] == 4.0
    assert one(1.3, 1.0, 1.2).demand[0] == 1.3, "what was really seen is never taken to be less"


def test_at_its_limit_a_vm_is_not_capped_by_us() -> None:
    for held, limit in ((4.0, 4.0), (np.inf, np.inf), (np.nan, 4.0), (np.inf, 4.0), (0.0, 4.0)):
        found = one(4.0, held, limit)
        assert (found.demand[0], found.capped[0]) == (4.0, False)


def test_a_rate_without_a_limit_has_no_end() -> None:
    assert one(100.0, 100.0, np.inf).demand[0] == pytest.approx(110.0)
    assert one(100.0, 100.0, np.nan).demand[0] == pytest.approx(110.0)


def test_a_gap_stays_a_gap_and_does_not_end_a_row() -> None:
    found = one(np.nan, 1.0, 4.0, in_a_row=2)
    assert np.isnan(found.demand[0])
    assert (found.capped[0], found.in_a_row[0]) == (False, 2)


def test_what_was_throttled_was_capped_whatever_it_used() -> None:
    assert one(0.8, 1.0, 4.0, throttled=0.95).demand[0] == 1.1
    assert one(0.8, 1.0, 4.0, throttled=0.85).demand[0] == 0.8
    assert one(0.8, 1.0, 4.0, throttled=np.nan).demand[0] == 0.8


def test_new_vms_stand_behind_the_known_ones() -> None:
    found = uncensor(np.ones(3), np.ones(3), np.full(3, 4.0), np.array([2]), SETTINGS)
    assert found.in_a_row.tolist() == [3, 1, 1]


def test_memory_counts_as_short_while_some_is_left() -> None:
    memory = DEFAULTS[Resource.MEMORY]
    found = uncensor(np.array([0.92]), np.array([1.0]), np.array([4.0]), NONE, memory)
    assert found.demand[0] == 1.25


amounts = st.floats(0, 1e12) | st.just(np.nan)


@given(st.lists(st.tuples(amounts, amounts | st.just(np.inf), amounts | st.just(np.inf)), min_size=1, max_size=8))
def test_demand_is_never_taken_to_be_less_than_seen(rows: list[tuple[float, float, float]]) -> None:
    seen, held, limit = (np.array(column) for column in zip(*rows, strict=True))
    found = uncensor(seen, held, limit, NONE, SETTINGS)
    assert (np.isnan(found.demand) == np.isnan(seen)).all()
    known = ~np.isnan(seen)
    assert (found.demand[known] >= seen[known]).all()
    assert (found.demand[known & ~found.capped] == seen[known & ~found.capped]).all()
    bounded = known & np.isfinite(limit)
    assert (found.demand[bounded] <= np.maximum(limit, seen)[bounded]).all()
