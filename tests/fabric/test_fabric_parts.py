"""The parts of the fabric loop that decide how much: totals, limits, classes, forecasts, candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import all_paths, leaf_spine

from forestall.fabric.bandwidth import Needs, allotted
from forestall.fabric.candidates import QUIET_BEATS, SENT, Candidates
from forestall.fabric.classes import DSCP, TrafficClass, class_of, queues_of
from forestall.fabric.completion import complete
from forestall.fabric.laying import DESTINATION
from forestall.fabric.limits import LEAST_BYTES_PER_S, Asker, Claim, limits_of
from forestall.fabric.measured import Gauge, Traffic
from forestall.fabric.outlook import Outlook
from forestall.fabric.routing import Prices, kept_whole
from forestall.model.forecast import LEVELS
from forestall.model.switching import Flow, matching
from forestall.ports.fabric import FlowCount, Interface, Place, PortCount

MB = 1e6
DAY, STEP = 86_400, 300


@given(st.lists(st.floats(0, 1e8), min_size=9, max_size=9), st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2))))
def test_a_matrix_is_completed_in_line_with_its_totals(values: list[float], hidden: set[tuple[int, int]]) -> None:
    true = np.array(values).reshape(3, 3) * (1 - np.eye(3))
    known = true.copy()
    for cell in hidden:
        known[cell] = np.nan
    found = complete(true.sum(axis=1), true.sum(axis=0), known)
    scale = max(true.sum(), 1.0)
    assert np.allclose(np.where(np.isnan(known), found, known), found)
    assert np.abs(found.sum(axis=0) - true.sum(axis=0)).max() <= 1e-3 * scale
    assert (found >= 0).all()


def needs(*peaks: float, weight: float = 1.0, ceiling: float = 100 * MB) -> Needs:
    n = len(peaks)
    quantiles = np.outer(peaks, np.linspace(0.5, 1.0, len(LEVELS)))
    ones = np.ones(n)
    return Needs(quantiles, np.array(LEVELS), 0.01 * ones, weight * ones, MB * ones, ceiling * ones)


def test_with_room_everybody_gets_what_is_foreseen_and_the_rest_is_given_away() -> None:
    given_ = allotted(needs(10 * MB, 20 * MB), np.array([[0, 0]]), np.array([100 * MB]))
    assert given_.sum() == pytest.approx(100 * MB)
    assert given_[1] - given_[0] == pytest.approx(8.5 * MB)  # at 99 %, as the levels are spaced here


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=6), st.floats(5, 200))
def test_what_is_allotted_fits_and_keeps_to_floors_and_ceilings(peaks: list[float], capacity: float) -> None:
    asked = needs(*(peak * MB for peak in peaks), ceiling=60 * MB)
    given_ = allotted(asked, np.array([[0] * len(peaks)]), np.array([capacity * MB]))
    assert given_.sum() <= max(capacity * MB, len(peaks) * MB) * (1 + 1e-6)
    assert (given_ <= 60 * MB * (1 + 1e-9)).all()
    if capacity > 2 * len(peaks):
        assert (given_ >= MB * (1 - 1e-6)).all()


def test_a_vm_that_passes_several_places_gets_the_least_of_its_shares() -> None:
    given_ = allotted(needs(50 * MB, 50 * MB), np.array([[0, 0], [1, -1]]), np.array([200 * MB, 5 * MB]))
    assert given_[0] == pytest.approx(5 * MB)
    assert given_[1] == pytest.approx(100 * MB)


def asker(ceiling: float, quantiles: np.ndarray | None = None, sent: float = 0.0) -> Asker:
    return Asker(
        Interface("52:54:00:00:00:01", "a", Place(1, 1)), Claim(ceiling_bytes_per_s=ceiling), 125 * MB, sent, quantiles
    )


def test_nobody_is_held_to_nothing_and_who_is_not_known_to_policy_alone() -> None:
    assert limits_of([asker(0.0)], {1: 125 * MB}, {}) == {"52:54:00:00:00:01": LEAST_BYTES_PER_S}
    assert limits_of([asker(np.inf)], {1: MB}, {}) == {}
    assert limits_of([asker(5 * MB)], {1: MB}, {}) == {"52:54:00:00:00:01": 5 * MB}
    assert limits_of([], {}, {}) == {}


def test_a_limit_that_is_nearly_what_it_was_stays() -> None:
    quantiles = np.full(len(LEVELS), 10 * MB)
    [before] = limits_of([asker(np.inf, quantiles)], {1: 20 * MB}, {}).values()
    assert limits_of([asker(np.inf, quantiles)], {1: 20.5 * MB}, {"52:54:00:00:00:01": before}) == {
        "52:54:00:00:00:01": before
    }


def test_classes_have_a_mark_of_their_own_and_guarantees_that_fit() -> None:
    assert len({DSCP[each] for each in TrafficClass}) == len(TrafficClass)
    queues = queues_of(125 * MB)
    assert queues.queues[0].dscp == (DSCP[TrafficClass.BULK],)  # the first takes what is not marked
    assert sum(queue.least_bytes_per_s for queue in queues.queues) <= 125 * MB
    assert class_of("cache") is TrafficClass.LATENCY_SENSITIVE
    assert class_of("whatever") is TrafficClass.BULK


def test_a_burst_that_came_each_day_is_foreseen_before_it_comes_again() -> None:
    rng = np.random.default_rng(1)
    outlook = Outlook()
    slots, burst = DAY // STEP, 168
    for k in range(3 * slots + burst):
        noise = rng.gamma(2, 2e4)
        outlook.learn({("a", "b"): noise + (2 * MB if k % slots == burst else 0.0)}, k * STEP)
    found = outlook.quantiles(("a", "b"))
    assert found is not None
    assert np.interp(0.75, LEVELS, found) > MB
    scenarios = outlook.scenarios([("a", "b"), ("c", "d")])
    assert (scenarios[-3:, 0] > MB).all()
    assert (scenarios[:, 1] == 0).all()
    assert outlook.peaks(0.75)["a", "b"] > MB
    outlook.keep(lambda series: False)
    assert outlook.quantiles(("a", "b")) is None
    outlook.learn({("e", "f"): 1.0}, (3 * slots + burst) * STEP)  # and it goes on


def test_intervals_in_which_nothing_was_seen_are_passed_with_nothing() -> None:
    outlook = Outlook()
    assert outlook.take_in({("a", "b"): 5.0}, 10.0) is None
    assert outlook.take_in({("a", "b"): 7.0}, 20.0) is None
    assert outlook.take_in({("a", "b"): 1.0}, 5 * STEP + 1.0) == ({("a", "b"): 7.0}, 0)
    assert outlook.take_in({}, 7 * STEP + 1.0) == ({("a", "b"): 1.0}, 5 * STEP)


def test_after_days_without_a_look_noon_is_still_noon() -> None:
    outlook = Outlook()
    slots = DAY // STEP
    for k in range(2 * slots):
        outlook.learn_at({("a", "b"): 2 * MB if k % slots == 100 else 1e4}, k * STEP)
    later = 7 * slots + 37  # nobody has looked for five days and some hours
    for k in range(later, 8 * slots + 100):
        outlook.learn_at({("a", "b"): 2 * MB if k % slots == 100 else 1e4}, k * STEP)
    assert (outlook.scenarios([("a", "b")])[-6:, 0] > MB).sum() >= 2


def test_a_pair_that_sends_nothing_any_more_is_planned_for_for_a_while() -> None:
    candidates, outlook = Candidates(10), Outlook()
    at = {"a": 1, "b": 2, "c": 1}
    pair = ("a", "b")
    assert candidates.chosen(Traffic({pair: MB, ("a", "c"): MB}), outlook, at, MB, ()) == [pair]
    for _ in range(QUIET_BEATS):
        assert candidates.chosen(Traffic({pair: 0.0}), outlook, at, MB, [pair]) == [pair]
    assert candidates.chosen(Traffic({pair: 0.0}), outlook, at, MB, [pair]) == []
    outlook.learn({(SENT, "a"): MB, pair: MB}, 0)  # hardly known: says nothing yet
    assert candidates.chosen(Traffic(), outlook, at, MB, ()) == []


def test_counters_become_rates_and_what_is_not_counted_is_estimated() -> None:
    interfaces = tuple(Interface(name, name, Place(1 + k // 2, k)) for k, name in enumerate("abcd"))
    gauge = Gauge()

    def ports(*sent: int) -> dict[Place, PortCount]:
        return {each.place: PortCount(count, count, 0, 0, 0) for each, count in zip(interfaces, sent, strict=True)}

    flow = Flow(DESTINATION, 1, matching(eth_src="a", eth_dst="c"))
    assert gauge.read(0.0, interfaces, ports(0, 0, 0, 0), {flow: FlowCount(0, 100)}) is None
    traffic = gauge.read(10.0, interfaces, ports(1_000, 500, 1_000, 500), {flow: FlowCount(0, 900)})
    assert traffic is not None
    assert traffic.pairs["a", "c"] == 80.0
    assert traffic.sent["a"] == 100.0
    assert sum(rate for pair, rate in traffic.pairs.items() if pair[0] == "a") == pytest.approx(100.0, rel=0.05)
    anew = gauge.read(20.0, interfaces, ports(50, 500, 1_000, 500), {flow: FlowCount(0, 10)})
    assert anew is not None
    assert anew.sent["a"] == 5.0  # begun anew


def test_pairs_keep_to_one_path_and_do_not_move_for_little() -> None:
    network = leaf_spine(2, 2, 10 * MB)
    paths = all_paths(network, ("leaf0", "leaf1"), ("leaf1", "leaf0"))
    scenarios = np.array([[6 * MB, 1 * MB]])
    half = paths.equal
    whole = kept_whole(paths, scenarios, np.ones(1), half, half, Prices(), 0.5)
    assert sorted(whole[paths.equal > 0].tolist()) == [0.0, 0.0, 1.0, 1.0]
    again = kept_whole(paths, scenarios, np.ones(1), 0.6 * whole + 0.4 * half, whole, Prices(), 0.5)
    assert (again == whole).all()
    large = kept_whole(paths, np.array([[15 * MB, 1 * MB]]), np.ones(1), half, half, Prices(), 0.5)
    assert (large[paths.pair == 0] == half[paths.pair == 0]).all()  # one path cannot carry it
