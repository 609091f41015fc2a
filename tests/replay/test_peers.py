"""Every peer, whatever its rule: causal, monotone in its knob, at ease with gaps; and the known values of some."""

from __future__ import annotations

import dataclasses
import sys
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from forestall.model.errors import Unsupported, WrongUse
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid
from forestall.replay.peers import registry
from forestall.replay.peers.arma import Recursion, run_recursions
from forestall.replay.peers.base import Peer, SeriesBlock
from forestall.replay.peers.histogram import Buckets, DecayingHistogram
from forestall.replay.peers.knob import LEVELS
from forestall.replay.peers.periodicity import repeats_with
from forestall.replay.peers.rolling import RollingQuantiles, held
from forestall.replay.peers.signature import find_signature

STEPS, SERIES, STEP_SECONDS = 480, 5, 1800
DAY = 86_400 // STEP_SECONDS
CUTS = (150, 263, 447)
PEERS = sorted(registry.PEERS)
FITTED = ("autoets", "autoarima", "mstl")
CAUSAL = [name for name in PEERS if name != "oracle"]


def _demand(steps: int) -> FloatArray:
    """Cores of five VMs: daily, hourly, random, idle, and one that comes late; two of them with gaps."""
    generator = np.random.default_rng(7)
    time = np.arange(steps)
    noise = generator.gamma(2.0, 0.1, (steps, SERIES))
    demand = noise + np.stack(
        [
            1.0 + np.sin(2 * np.pi * time / DAY),
            1.5 * (time % 4 == 0),
            generator.gamma(0.3, 2.0, steps),
            np.zeros(steps),
            np.ones(steps),
        ],
        axis=1,
    )
    demand[:, 3] = 0.0
    demand[:200, 4] = np.nan
    demand[100:103, 0] = np.nan
    demand[180:250, 2] = np.nan
    return np.minimum(demand, 4.0)


@lru_cache
def _block(name: str, lead: int = 1, steps: int = STEPS) -> SeriesBlock:
    """A block that the peer can allocate: memory for those that know nothing else, else CPU."""
    demand = _demand(STEPS)[:steps]
    if name.startswith(FITTED):
        demand = demand[:, 1::2]  # fitting takes its time
    resource, unit = (Resource.MEMORY, 2.0**30) if name in registry.MEMORY_ONLY else (Resource.CPU, 1.0)
    limit = np.where(np.maximum.accumulate(~np.isnan(demand), axis=0), 4.0 * unit, np.nan)
    return SeriesBlock(resource, Grid(0, STEP_SECONDS, steps), demand * unit, limit, lead)


@lru_cache
def _answers(name: str, lead: int = 1, steps: int = STEPS) -> tuple[FloatArray, ...]:
    """Answers at the shipped knob and at every other, in increasing order."""
    peer = registry.peer(name)
    allocate = peer.prepare(_block(name, lead, steps))
    return (allocate(peer.shipped), *(allocate(knob) for knob in sorted(peer.knobs)))


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("cut", CUTS)
def test_cutting_the_trace_changes_nothing_before_the_cut(name: str, cut: int) -> None:
    whole, part = _answers(name), _answers(name, steps=cut)
    for known, again in zip(whole, part, strict=True):
        assert known[:cut].tobytes() == again.tobytes()


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("lead", [1, 3])
def test_a_decision_uses_nothing_newer_than_the_lead_allows(name: str, lead: int) -> None:
    block, cut = _block(name, lead), 263
    changed = block.demand.copy()
    changed[cut:] = 0.5 * changed[cut:] + 0.25 * block.limit[cut:]
    allocate = registry.peer(name).prepare(dataclasses.replace(block, demand=changed))
    answer = allocate(registry.peer(name).shipped)
    in_force = cut + lead  # row cut is first used for the interval cut + lead
    assert answer[:in_force].tobytes() == _answers(name, lead)[0][:in_force].tobytes()


@pytest.mark.parametrize("name", ["vpa", "autopilot", "koordinator", "crane", "cloudscale"])
def test_peers_with_a_rule_of_their_own_for_memory_are_causal_there_too(name: str) -> None:
    block, cut = _block("mom"), 263
    part = dataclasses.replace(
        block, demand=block.demand[:cut], limit=block.limit[:cut], grid=Grid(0, STEP_SECONDS, cut)
    )
    peer = registry.peer(name)
    whole, again = peer.prepare(block), peer.prepare(part)
    for knob in (peer.shipped, peer.knobs[-1]):
        assert whole(knob)[:cut].tobytes() == again(knob).tobytes()


def test_a_trace_of_one_interval_is_enough() -> None:
    for name in CAUSAL:
        peer = registry.peer(name)
        assert np.isnan(peer.prepare(_block(name, steps=1))(peer.shipped)).all()


def test_the_oracle_is_the_demand_itself() -> None:
    np.testing.assert_array_equal(_answers("oracle")[0], _block("oracle").demand)


@pytest.mark.parametrize("name", PEERS)
def test_a_larger_knob_never_allocates_less(name: str) -> None:
    _, *swept = _answers(name)
    for less, more in pairwise(swept):
        assert (np.isnan(less) == np.isnan(more)).all()
        assert not (more < less - 1e-9 * np.abs(less)).any()


@pytest.mark.parametrize("name", PEERS)
def test_gaps_leave_no_trace(name: str) -> None:
    if name == "static":
        pytest.skip("has no opinion, ever")
    answer = _answers(name)[0]
    known = ~np.isnan(_block(name).demand)
    started = np.maximum.accumulate(known, axis=0)
    assert answer.shape == known.shape
    assert not np.isinf(answer).any()
    assert not (answer < 0).any()
    assert np.isnan(answer[~started]).all(), "an opinion about a VM that was never seen"
    assert not np.isnan(answer[-DAY:]).any(), "a gap of long ago still shows"


@pytest.mark.parametrize("name", PEERS)
def test_knobs_are_an_increasing_sweep_around_what_is_shipped(name: str) -> None:
    peer: Peer = registry.peer(name)
    assert peer.name == name
    assert list(peer.knobs) == sorted(set(peer.knobs))
    assert peer.knobs[0] <= peer.shipped <= peer.knobs[-1]
    assert len(peer.knobs) >= 10 or name == "static"


def test_the_registry_is_complete() -> None:
    named = {"static", "oracle", *registry.SIMPLE, *registry.PUBLISHED}
    assert named <= set(registry.PEERS)
    assert {"autoets", "autoarima", "mstl", "autopilot_load_adjusted"} <= set(registry.PEERS) - named
    assert {"reactive", "residual", "moving_max_24h", "seasonal_naive_week", "tournament"} <= set(registry.SIMPLE)
    assert set(registry.for_resource(Resource.MEMORY)) == set(registry.PEERS)
    assert set(registry.PEERS) - set(registry.for_resource(Resource.CPU)) == {"mom", "proxmox"}


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(WrongUse, match="did you mean 'autopilot'"):
        registry.peer("autopilott")
    with pytest.raises(WrongUse, match="known: static"):
        registry.peer("qqqqq")


def test_without_statsforecast_there_is_an_install_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    with pytest.raises(Unsupported, match=r"pip install 'forestall\[forecast\]'"):
        registry.peer("autoets").prepare(_block("autoets"))


def _small(values: list[float], resource: Resource = Resource.CPU) -> SeriesBlock:
    demand = np.asarray(values)[:, None]
    return SeriesBlock(resource, Grid(0, 300, len(values)), demand, np.full_like(demand, 100.0), 1)


def test_moving_max_holds_the_window_and_the_lead() -> None:
    answer = registry.peer("moving_max_15m").prepare(_small([1, 5, 2, 1, 1, 3]))(0.5)
    np.testing.assert_array_equal(answer[:, 0], [np.nan, 1.5, 7.5, 7.5, 7.5, 3.0])


def test_reactive_holds_a_value_for_an_hour_of_silence() -> None:
    answer = registry.peer("reactive").prepare(_small([2.0] + [np.nan] * 14))(0.5)
    np.testing.assert_array_equal(answer[:, 0], [np.nan] + [3.0] * 13 + [np.nan])


def test_nsigma_is_mean_and_deviations() -> None:
    answer = registry.peer("nsigma").prepare(_small([1, 3, np.nan, 5]))(5.0)
    np.testing.assert_allclose(answer[:, 0], [np.nan, 1.0, 2.0 + 5.0, 2.0 + 5.0])


def test_vpa_answers_the_end_of_the_bucket_and_a_margin() -> None:
    # Buckets end at 0.01, 0.0205, 0.031525, ...; nine of ten samples lie in the first, decay is negligible.
    answer = registry.peer("vpa").prepare(_small([0.005] * 9 + [0.03, 0.03]))(0.8)
    assert answer[10, 0] == pytest.approx(1.15 * 0.01)
    everything = registry.peer("vpa").prepare(_small([0.005] * 9 + [0.03, 0.03]))(0.99)
    assert everything[10, 0] == pytest.approx(1.15 * 0.031525)


def test_vpa_raises_memory_after_it_ran_out() -> None:
    block = _small([50e6] * 3 + [2e9] * 2, Resource.MEMORY)
    answer = registry.peer("vpa").prepare(block)(0.9)
    assert answer[4, 0] >= 1.15 * 2e9
    assert answer[2, 0] < 1.3 * 50e6


def test_autopilot_counts_buckets_by_their_load_when_told() -> None:
    values = [0.1] * 95 + [10.0] * 5 + [0.1]
    plain = registry.peer("autopilot").prepare(_small(values))(0.8)[-1, 0]
    adjusted = registry.peer("autopilot_load_adjusted").prepare(_small(values))(0.8)[-1, 0]
    assert plain < 0.2
    assert adjusted > 10.0


def test_koordinator_keeps_the_limit_for_a_day() -> None:
    answer = registry.peer("koordinator").prepare(_small([1.0] * 300))(0.95)[:, 0]
    assert np.isnan(answer[:288]).all()
    assert answer[288] == pytest.approx(1.1, rel=0.06)


def test_mom_comes_down_in_steps_and_up_at_once() -> None:
    gib = 2.0**30
    demand = np.asarray([4.0, 1.0, 1.0, 3.0, 3.0])[:, None] * gib
    block = SeriesBlock(Resource.MEMORY, Grid(0, 10, 5), demand, np.full_like(demand, 8 * gib), 1)
    answer = registry.peer("mom").prepare(block)(0.2)[:, 0] / (1.2 * gib)
    np.testing.assert_allclose(answer[1:3], [4.0, 3.8])
    assert answer[3] == pytest.approx(3.8 * 0.95)


def test_proxmox_moves_by_100_mib_a_cycle() -> None:
    mib = 2.0**20
    demand = np.full((4, 1), 200 * mib)
    block = SeriesBlock(Resource.MEMORY, Grid(0, 10, 4), demand, np.full_like(demand, 1000 * mib), 1)
    answer = registry.peer("proxmox").prepare(block)(0.2)[:, 0] / mib
    np.testing.assert_allclose(answer[1:], [900, 800, 700])


def test_the_histogram_forgets_with_its_half_life() -> None:
    buckets = Buckets(0.01, 1.0)
    histogram = DecayingHistogram(buckets, 1, half_life_steps=1)
    for value in (0.5, 0.005):
        histogram.age()
        histogram.add(buckets.index(np.array([value])), np.array([True]))
    found = histogram.percentiles((0.6, 0.7))  # the old sample weighs a third
    assert buckets.ends[found[0, 0]] == pytest.approx(0.01)
    assert 0.5 <= buckets.ends[found[1, 0]] <= 0.55


def test_rolling_quantiles_are_those_of_the_window() -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(size=(60, 3))
    values[generator.random(values.shape) < 0.3] = np.nan
    quantiles = RollingQuantiles(values, 20, LEVELS, every=1)
    for level in (0.9, 0.999):
        expected = [np.nanquantile(values[max(0, i - 19) : i + 1], level, axis=0) for i in range(19, 60)]
        np.testing.assert_allclose(quantiles.at(level)[19:], expected)


def test_a_value_is_held_no_longer_than_told() -> None:
    np.testing.assert_array_equal(held(np.array([[1.0], [np.nan], [np.nan]]), 1)[:, 0], [1.0, 1.0, np.nan])


def test_signature_and_period_are_found_where_they_are() -> None:
    generator = np.random.default_rng(5)
    time = np.arange(12 * 24)
    window = np.stack([10 + np.sin(2 * np.pi * time / 24), generator.normal(size=len(time))])
    found = find_signature(window, 0.85, 0.05)
    assert found.period[0] == 24
    assert found.repeats.tolist() == [True, False]
    np.testing.assert_allclose(found.at(np.arange(24))[:, 0], window[0, :24])
    assert repeats_with(window, 24, np.random.default_rng(0)).tolist() == [True, False]


def test_a_smoothing_model_runs_as_the_arima_it_is() -> None:
    demand = np.random.default_rng(2).gamma(2.0, 1.0, (30, 1))
    alpha = 0.3
    smoothing = Recursion.arima(np.zeros(0), np.array([alpha - 1.0]), differences=1)
    forecast = run_recursions(demand, 2, {0: {0: smoothing}})
    level = demand[0, 0]
    for i in range(1, 30):
        level += alpha * (demand[i, 0] - level)
        assert forecast[i, 0] == pytest.approx(level)
