"""The window against plain arrays: the ring, gaps, a roster that grows, and statistics by the hour."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.model.samples import FloatArray
from forestall.profiling.window import Window, retained

STEP_SECONDS, HOUR = 1800, 2
CAPACITY = 7 * 48


def _demand(steps: int, vms: int = 4, gap_ratio: float = 0.1) -> FloatArray:
    generator = np.random.default_rng(3)
    demand = generator.gamma(2.0, 1.0, (steps, vms)).astype(np.float32).astype(np.float64)
    demand[generator.random((steps, vms)) < gap_ratio] = np.nan
    return demand


def _filled(demand: FloatArray, limit: float = 5.0) -> Window:
    window = Window(STEP_SECONDS, 1e-3)
    for row in demand:
        window.push(row, np.full(len(row), limit))
    return window


@pytest.mark.parametrize("steps", [1, 5, CAPACITY - 1, CAPACITY, CAPACITY + 1, 2 * CAPACITY + 77])
def test_the_ring_holds_the_newest_samples(steps: int) -> None:
    demand = _demand(steps)
    window = _filled(demand)
    assert window.capacity == CAPACITY
    kept = demand[-CAPACITY:]
    np.testing.assert_array_equal(window.tail(CAPACITY), kept)
    np.testing.assert_array_equal(window.tail(3), kept[-3:])
    for lag in {0, min(1, len(kept) - 1), len(kept) - 1}:
        np.testing.assert_array_equal(window.at_lag(lag), kept[-1 - lag])
    assert np.isnan(window.at_lag(len(kept))).all()
    assert np.isnan(window.at_lag(-1)).all(), "the future is not known"


def test_lags_may_differ_between_vms() -> None:
    demand = _demand(CAPACITY + 20, gap_ratio=0.0)
    window = _filled(demand)
    lags = np.array([[0, 3, CAPACITY - 1, 7], [-1, CAPACITY, 10_000, 5]])
    got = window.lagged(lags)
    np.testing.assert_array_equal(got[0], [demand[-1 - lag, vm] for vm, lag in enumerate(lags[0])])
    assert np.isnan(got[1, :3]).all()
    assert got[1, 3] == demand[-6, 3]


@pytest.mark.parametrize("steps", [1, 30, CAPACITY, 3 * CAPACITY + 50])
def test_the_highest_of_any_stretch_of_lags(steps: int) -> None:
    demand, early = _demand(steps, vms=6, gap_ratio=0.5), steps // 2
    demand[:early, 4:] = np.nan  # two VMs come later
    window, generator = Window(STEP_SECONDS, 1e-3), np.random.default_rng(steps)
    for k, row in enumerate(demand):
        vms = 4 if k < early else 6
        window.push(row[:vms], np.full(vms, 5.0))
        if k % 37 and k < steps - 20:
            continue
        newest_first = demand[k::-1][:CAPACITY]
        nearest = generator.integers(-20, CAPACITY + 10, (3, vms))
        furthest = nearest + generator.integers(-2, CAPACITY, (3, vms))
        got = window.highest_between(nearest, furthest)
        for i in np.ndindex(3, vms):
            stretch = newest_first[max(nearest[i], 0) : max(furthest[i] + 1, 0), i[1]]
            np.testing.assert_equal(got[i], np.fmax.reduce(stretch, initial=np.nan))


def test_gaps_are_kept_and_the_last_sample_ages() -> None:
    window = _filled(np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan], [np.nan, 4.0]]))
    assert window.last.tolist() == [2.0, 4.0]
    assert window.age.tolist() == [2, 0]
    assert window.seen.tolist() == [2, 1]
    assert np.isnan(window.at_lag(1)).all()


def test_what_was_given_out_does_not_change_later() -> None:
    window = _filled(np.ones((5, 2)))
    before = {name: getattr(window, name) for name in ("last", "age", "seen", "limit")}
    copies = {name: value.copy() for name, value in before.items()}
    window.push(np.array([np.nan, 9.0]), np.array([7.0, 8.0]))
    for name, value in before.items():
        np.testing.assert_array_equal(value, copies[name], name)


def test_a_roster_that_grows_equals_one_that_began_with_gaps() -> None:
    demand = _demand(3 * CAPACITY // 2, vms=9)
    born = np.array([0, 0, 10, 10, 50, 200, CAPACITY, CAPACITY + 3, CAPACITY + 90])
    demand[np.arange(len(demand))[:, None] < born] = np.nan
    grown, whole = Window(STEP_SECONDS, 1e-3), Window(STEP_SECONDS, 1e-3)
    for i, row in enumerate(demand):
        n = int((born <= i).sum())
        grown.push(row[:n], np.full(n, 4.0))
        whole.push(row, np.full(9, 4.0))
    for name in ("last", "seen", "limit"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(whole, name), name)
    np.testing.assert_array_equal(grown.tail(CAPACITY), whole.tail(CAPACITY))
    np.testing.assert_array_equal(grown.peak(24), whole.peak(24))
    np.testing.assert_array_equal(grown.moments(24), whole.moments(24))
    np.testing.assert_array_equal(grown.scale(), whole.scale())


@pytest.mark.parametrize("hours", [1, 3, 24, 168])
@pytest.mark.parametrize("steps", [3, 40, CAPACITY + 6, 2 * CAPACITY + 2])
def test_moments_and_peak_are_those_of_the_last_hours(hours: int, steps: int) -> None:
    demand = _demand(steps, gap_ratio=0.05)
    window = _filled(demand)
    newest_hour = (steps - 1) // HOUR
    recent = demand[max(newest_hour - hours + 1, 0) * HOUR :]
    mean, deviation = window.moments(hours)
    np.testing.assert_allclose(mean, np.nanmean(recent, axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, np.nanstd(recent, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(window.peak(hours), np.nanmax(recent, axis=0).astype(np.float32))


def test_the_scale_is_above_zero_also_for_nothing() -> None:
    window = _filled(np.array([[0.0, np.nan, 1e-9]] * 5))
    assert window.scale().tolist() == [1e-3, 1e-3, 1e-3]


@pytest.mark.parametrize("step_seconds", [1, 10, 700, 3600, 7200, 86_400])
def test_any_step_has_a_window(step_seconds: int) -> None:
    window = Window(step_seconds, 1.0)
    for i in range(200):
        window.push(np.array([float(i)]), np.array([np.inf]))
    assert window.tail(48).shape == (48, 1)
    assert window.peak(24)[0] == 199
    assert 48 <= window.capacity <= 4032


def test_a_window_without_some_vms_is_as_one_that_never_had_them() -> None:
    demand, rows = _demand(CAPACITY + 30, vms=6), np.array([1, 2, 5])
    window, only = _filled(demand), _filled(demand[:, rows])
    window.moments(24)
    window.keep(rows)
    for more in _demand(20, vms=3):
        for each in (window, only):
            each.push(more, np.full(3, 5.0))
    assert window.vms == 3
    np.testing.assert_array_equal(window.tail(CAPACITY), only.tail(CAPACITY))
    for name in ("last", "age", "seen", "limit"):
        np.testing.assert_array_equal(getattr(window, name), getattr(only, name))
    np.testing.assert_array_equal(window.moments(24), only.moments(24))
    np.testing.assert_array_equal(window.peak(24), only.peak(24))
    np.testing.assert_array_equal(window.scale(), only.scale())
    window.push(np.ones(7), np.ones(7))
    assert window.seen[3:].tolist() == [1] * 4


def test_what_is_retained_of_an_array_that_ends_before_the_newest_vms() -> None:
    array = np.arange(10).reshape(2, 5)
    assert retained(array, np.array([0, 3, 6, 7]), 1).tolist() == [[0, 3], [5, 8]]
    assert retained(array, np.array([], np.int64), 1).shape == (2, 0)
