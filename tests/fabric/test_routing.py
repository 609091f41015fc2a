"""Traffic spread over paths: as good as can be, for several matrices at once, and not moved for nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import MB, all_paths, leaf_spine, square

from forestall.fabric.planner import Judge, PlannerSettings, TrafficPlanner
from forestall.fabric.routing import Prices, held_back, spread

FREE = Prices(change=0.0)
ONE = np.ones(1)


def test_a_lone_pair_uses_all_its_paths() -> None:
    paths = all_paths(square(), ("a", "c"))
    start = np.array([1.0, 0.0])
    share = spread(paths, np.array([[10 * MB]]), ONE, start, FREE)
    assert share == pytest.approx([0.5, 0.5])


def test_who_is_in_the_way_goes_round() -> None:
    network = square()
    paths = all_paths(network, ("a", "c"), ("a", "b"))
    share = spread(paths, np.array([[10 * MB, 8 * MB]]), ONE, paths.equal, FREE)
    worst = paths.utilisation(share, np.array([10 * MB, 8 * MB])).max()
    assert worst == pytest.approx(0.9)
    assert paths.utilisation(paths.equal, np.array([10 * MB, 8 * MB])).max() == pytest.approx(1.3)


def test_one_plan_serves_several_matrices() -> None:
    paths = all_paths(leaf_spine(), ("leaf0", "leaf1"), ("leaf2", "leaf1"), ("leaf3", "leaf1"), most=2)
    scenarios = np.array([[10 * MB, 0, 0], [0, 10 * MB, 0], [0, 0, 10 * MB]])
    share = spread(paths, scenarios, np.full(3, 1 / 3), np.array([1.0, 0.0] * 3), FREE)
    assert paths.worst(share, scenarios) == pytest.approx([0.5] * 3)


def test_what_gains_less_than_it_costs_stays() -> None:
    paths = all_paths(square(), ("a", "c"))
    start = np.array([0.52, 0.48])
    scenarios = np.array([[10 * MB]])
    assert spread(paths, scenarios, ONE, start, Prices(change=1.5)) == pytest.approx(start)
    assert spread(paths, scenarios, ONE, start, Prices(change=0.1)) == pytest.approx([0.5, 0.5])


def test_a_pair_that_fills_nothing_is_left_alone() -> None:
    paths = all_paths(square(), ("a", "c"), ("a", "b"))
    start = np.array([1.0, 0.0, 0.3, 0.7])
    share = spread(paths, np.array([[10 * MB, 100.0]]), ONE, start, FREE)
    assert share[2:].tolist() == [0.3, 0.7]
    assert spread(paths, np.zeros((1, 2)), ONE, start, FREE) is start


def test_who_was_worse_with_next_to_nothing_is_not_held_to_have_done_harm() -> None:
    judge = Judge()
    for _ in range(20):
        judge.see(planned=0.002, equal=0.001, keep=0.999)
    assert judge.no_worse(at_stake=0.5, gain=0.02)
    assert not judge.no_worse(at_stake=0.001, gain=0.02)


@pytest.mark.parametrize("quiet", [0, 100_000])
def test_harm_is_noticed_however_long_nothing_happened_before(quiet: int) -> None:
    judge = Judge()
    for _ in range(quiet):
        judge.see(planned=0.0, equal=0.0, keep=1.0 - 1e-5)
    judge.see(planned=0.8, equal=0.6, keep=1.0 - 1e-5)
    assert judge.no_worse(at_stake=0.6, gain=0.02)
    judge.see(planned=0.8, equal=0.6, keep=1.0 - 1e-5)
    assert not judge.no_worse(at_stake=0.6, gain=0.02)


@given(seed=st.integers(0, 10_000), scenarios=st.integers(1, 5))
def test_shares_are_shares_and_no_worse_than_what_was(seed: int, scenarios: int) -> None:
    rng = np.random.default_rng(seed)
    paths = all_paths(leaf_spine(5, 3), *((f"leaf{a}", f"leaf{b}") for a in range(5) for b in range(5) if a != b))
    traffic = rng.pareto(1.2, (scenarios, 20)) * MB
    weight = rng.dirichlet(np.ones(scenarios))
    share = spread(paths, traffic, weight, paths.equal, FREE)
    assert (share >= 0).all()
    np.testing.assert_allclose(np.bincount(paths.pair, share), 1.0)
    before, after = (float(paths.worst(each, traffic) @ weight) for each in (paths.equal, share))
    assert after <= before * 1.01 + 1e-3


class TestPlanner:
    def test_it_learns_what_comes_again(self) -> None:
        """Two pairs share a link by equal splitting whenever one of them bursts."""
        paths = all_paths(square(), ("a", "c"), ("a", "b"))
        planner = TrafficPlanner(paths, PlannerSettings(scenarios=6))
        worst = []
        for t in range(40):
            traffic = np.array([10 * MB, 8 * MB if t % 4 else 1 * MB])
            worst.append(paths.utilisation(planner.share, traffic).max())
            planner.decide(traffic)
        assert worst[1] == pytest.approx(1.3), "nothing is known yet"
        assert max(worst[10:]) <= 0.91

    def test_where_equal_splitting_is_best_it_stays_in_force(self) -> None:
        paths = all_paths(leaf_spine(), *((f"leaf{a}", f"leaf{b}") for a in range(4) for b in range(4) if a != b))
        planner = TrafficPlanner(paths, PlannerSettings())
        rng = np.random.default_rng(4)
        for _ in range(30):
            planner.decide(rng.pareto(1.1, 12) * MB)
            assert planner.share is paths.equal

    def test_what_helped_once_is_given_up_when_it_does_harm(self) -> None:
        """A burst on one side for long, then on the other: the plan follows, and never costs more for long."""
        paths = all_paths(square(), ("a", "c"), ("a", "b"), ("a", "d"))
        planner = TrafficPlanner(paths, PlannerSettings(scenarios=4, memory=20))
        cost, plain = [], []
        for t in range(200):
            left = t // 50 % 2 == 0
            traffic = np.array([10 * MB, 8 * MB * left, 8 * MB * (not left)])
            cost.append(paths.utilisation(planner.share, traffic).max())
            plain.append(paths.utilisation(paths.equal, traffic).max())
            planner.decide(traffic)
        assert np.mean(cost) < 0.8 * np.mean(plain)

    def test_rules_stay_while_traffic_stays(self) -> None:
        paths = all_paths(square(), ("a", "c"), ("a", "b"))
        planner = TrafficPlanner(paths, PlannerSettings())
        rng = np.random.default_rng(1)
        shares = [planner.decide(np.array([10 * MB, 8 * MB]) * rng.uniform(0.9, 1.1, 2)) for _ in range(60)]
        moved = [float(np.abs(a - b).max()) for a, b in pairwise(shares[20:])]
        assert np.mean(np.array(moved) > 1e-3) < 0.1


@given(
    sent=st.lists(st.floats(0.0, 20 * MB), min_size=3, max_size=3),
    draws=st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.booleans()), min_size=3, max_size=3),
)
def test_whoever_moves_first_no_link_is_overfull_meanwhile(
    sent: list[float], draws: list[tuple[float, float, bool]]
) -> None:
    paths = all_paths(leaf_spine(), ("leaf0", "leaf1"), ("leaf2", "leaf1"), ("leaf0", "leaf3"), most=2)
    traffic = np.array(sent)
    share, wanted = (np.array([part for draw in draws for part in (draw[k], 1.0 - draw[k])]) for k in (0, 1))
    held = held_back(paths, traffic, share, wanted)
    moved_first = np.array([draw[2] for draw in draws])[paths.pair]
    before, after = paths.utilisation(share, traffic), paths.utilisation(wanted, traffic)
    most = np.maximum(1.0, np.maximum(before, after))
    assert np.all(paths.utilisation(np.where(moved_first, held, share), traffic) <= most + 1e-4)
    assert all(each in (a, b) for each, a, b in zip(held, share, wanted, strict=True))


def test_two_that_change_places_wait_and_one_that_has_room_goes() -> None:
    paths = all_paths(leaf_spine(), ("leaf0", "leaf1"), ("leaf0", "leaf1"), most=2)
    first, second = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    full = held_back(paths, np.array([8 * MB, 6 * MB]), first, second)
    assert full == pytest.approx(first)
    assert held_back(paths, np.array([4 * MB, 5 * MB]), first, second) == pytest.approx(second)
    one_goes = held_back(paths, np.array([8 * MB, 2 * MB]), first, np.array([1.0, 0.0, 1.0, 0.0]))
    assert one_goes == pytest.approx([1.0, 0.0, 1.0, 0.0])


def test_who_is_held_back_follows_once_there_is_room() -> None:
    paths = all_paths(leaf_spine(), ("leaf0", "leaf1"), ("leaf0", "leaf1"), most=2)
    share, wanted = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    assert held_back(paths, np.array([8 * MB, 3 * MB]), share, wanted) == pytest.approx(share)
    assert held_back(paths, np.array([8 * MB, 1 * MB]), share, wanted) == pytest.approx(wanted)
