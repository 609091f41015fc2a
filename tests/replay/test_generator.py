"""Generated workloads: the statistics that the docstring promises, and that a seed fixes every byte."""

from dataclasses import fields, replace

import numpy as np
import pytest

from forestall.model.errors import BadInput
from forestall.model.resources import Resource
from forestall.model.samples import Trace
from forestall.replay.cast import Cast
from forestall.replay.generator import Mixture, Workload, cast, generate
from forestall.replay.scores.groups import lag_correlation

WEEK = Workload(vms=240, days=7)
DAY = 288


@pytest.fixture(scope="module")
def week() -> Trace:
    return generate(WEEK, 1)


@pytest.fixture(scope="module")
def players() -> Cast:
    return cast(WEEK, 1)


def part(players: Cast, name: str) -> np.ndarray:
    return players.archetype == WEEK.mixture.names.index(name)


def alive(players: Cast) -> np.ndarray:
    rows = np.arange(WEEK.steps)[:, None]
    return (rows >= players.born) & (rows < players.gone)


def best_lag_correlation(a: np.ndarray, b: np.ndarray) -> float:
    pairs = [(a[k:], b[: len(b) - k]) for k in range(3)] + [(a[: len(a) - k], b[k:]) for k in (1, 2)]
    both = [(x[ok], y[ok]) for x, y in pairs for ok in [~(np.isnan(x) | np.isnan(y))]]
    return max(float(np.corrcoef(x, y)[0, 1]) for x, y in both)


def test_shares_of_archetypes_are_as_asked(players: Cast) -> None:
    counts = np.bincount(players.archetype, minlength=7)
    assert counts.sum() == WEEK.vms
    assert np.abs(counts - np.array(WEEK.mixture.shares) * WEEK.vms).max() <= 1.0
    assert players.short_lived(WEEK.steps).mean() == pytest.approx(0.08, abs=0.05)


def test_utilisation_gaps_and_overshoots(week: Trace, players: Cast) -> None:
    cpu, limit = week.demand[Resource.CPU], week.limit[Resource.CPU]
    on = limit > 0
    assert 0.10 < (cpu[on] / limit[on]).mean() < 0.22
    assert 0.003 < np.isnan(cpu)[alive(players)].mean() < 0.007
    assert np.isnan(cpu)[~alive(players)].all()
    assert 0.0002 < (cpu[~np.isnan(cpu)] > limit[~np.isnan(cpu)] + 1e-9).mean() < 0.0008
    assert (limit == 0).any()
    assert (cpu[limit == 0] == 0).all()
    assert np.nanmax(cpu[on] / limit[on]) <= 1.1 + 1e-9


def test_autocorrelation(week: Trace, players: Cast) -> None:
    cpu = week.demand[Resource.CPU]
    assert 0.75 < np.median(lag_correlation(cpu, 1)) < 0.97
    daily = lag_correlation(cpu[: 5 * DAY], DAY)
    assert np.median(daily[part(players, "interactive")]) > 0.6
    assert np.median(daily[part(players, "batch")]) > 0.6
    assert np.median(daily[part(players, "bursty")]) < 0.2


def test_weekends_are_quiet_for_interactive_vms(week: Trace, players: Cast) -> None:
    cpu = week.demand[Resource.CPU][:, part(players, "interactive") & ~players.short_lived(WEEK.steps)]
    working, weekend = np.nanmean(cpu[: 5 * DAY], axis=0), np.nanmean(cpu[5 * DAY :], axis=0)
    assert np.median(weekend / working) < 0.8


def test_groups_move_together(week: Trace, players: Cast) -> None:
    cpu = week.demand[Resource.CPU]
    members = np.flatnonzero((players.group >= 0) & ~players.short_lived(WEEK.steps))
    within, across = [], []
    for i, a in enumerate(members):
        for b in members[i + 1 :]:
            same = players.group[a] == players.group[b]
            (within if same else across).append(best_lag_correlation(cpu[:, a], cpu[:, b]))
    assert np.median(within) > 0.6
    assert np.median(across) < 0.5


def test_network_drives_cpu(week: Trace) -> None:
    cpu, net = week.demand[Resource.CPU], week.demand[Resource.NET_RX]
    together = [
        np.corrcoef(cpu[ok, i], net[ok, i])[0, 1]
        for i in range(0, WEEK.vms, 3)
        for ok in [~np.isnan(cpu[:, i])]
        if ok.sum() > 100
    ]
    assert 0.8 < np.median(together) < 0.99


def test_leaking_memory_climbs_and_restarts(week: Trace, players: Cast) -> None:
    leaking = np.flatnonzero(part(players, "leak") & ~players.short_lived(WEEK.steps))
    memory = week.demand[Resource.MEMORY][:, leaking]
    moves = np.diff(memory, axis=0) / np.nanmax(memory, axis=0)
    assert (np.nanmin(moves, axis=0) < -0.2).any()
    assert np.median(np.nanmean(moves > 0, axis=0)) > 0.5


def test_limits_hold_and_values_are_sane(week: Trace) -> None:
    for resource in Resource:
        values = week.demand[resource]
        assert not (values[~np.isnan(values)] < 0).any()
        assert np.isfinite(values[~np.isnan(values)]).all()
    memory, limit = week.demand[Resource.MEMORY], week.limit[Resource.MEMORY]
    assert (memory[~np.isnan(memory)] <= limit[~np.isnan(memory)]).all()
    assert week.cpu_peak is not None
    cpu = week.demand[Resource.CPU]
    seen = ~np.isnan(cpu)
    assert (week.cpu_peak[seen] >= cpu[seen] - 1e-12).all()


def test_vms_stand_in_the_order_of_their_first_sample(week: Trace) -> None:
    first = week.first_seen()
    assert (np.diff(first) >= 0).all()
    assert list(week.vm_ids) == sorted(week.vm_ids)
    assert (first > 0).any()


def test_same_seed_same_bytes() -> None:
    small = Workload(vms=30, days=1)
    one, two, other = generate(small, 5), generate(small, 5), generate(small, 6)
    assert one.digest == two.digest != other.digest
    for resource in Resource:
        assert one.demand[resource].tobytes() == two.demand[resource].tobytes()
        assert one.limit[resource].tobytes() == two.limit[resource].tobytes()


@pytest.mark.parametrize("name", [f.name for f in fields(Mixture)])
def test_a_single_archetype_is_enough(name: str) -> None:
    only = Mixture(**{f.name: float(f.name == name) for f in fields(Mixture)})
    trace = generate(Workload(vms=5, days=0.5, mixture=only, off_share=0.0), 0)
    assert np.nanmax(trace.demand[Resource.CPU]) > 0


def test_small_and_coarse_workloads() -> None:
    assert generate(Workload(vms=1, days=1 / 288), 0).grid.steps == 1
    assert generate(Workload(vms=3, days=2, step_seconds=3600), 0).grid.steps == 48


def test_many_vms() -> None:
    trace = generate(Workload(vms=3000, days=0.25), 0)
    assert trace.demand[Resource.CPU].shape == (72, 3000)


@pytest.mark.parametrize("wrong", [{"vms": 0}, {"days": 0.0}, {"gap_ratio": 1.0}, {"off_share": -0.1}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        replace(WEEK, **wrong)
