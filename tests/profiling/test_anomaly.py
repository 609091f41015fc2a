"""Anomalies: what is unusual scores high, each kind is told from the others, and ordinary days are none."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.learning.past import floor_of
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.profiling.anomaly import KINDS, Kind, Watch
from forestall.profiling.surprise import Surprise

STEP, DAY = 300, 288
ALL = tuple(Resource)
CPU, MEMORY, READ, WRITE, RX, TX = range(6)
LIMIT = np.array([4.0, 8e9, np.inf, np.inf, np.inf, np.inf])


def ordinary(days: int, vms: int = 4, seed: int = 0) -> FloatArray:
    """Demand (time, vm, resource) of VMs at work by day, half as much by night."""
    generator = np.random.default_rng(seed)
    time = np.arange(days * DAY)
    shape = 1.0 + 0.5 * np.sin(2 * np.pi * time / DAY)
    level = np.array([0.5, 2e9, 1e5, 2e5, 1e6, 5e5])
    noise = generator.gamma(20.0, 1 / 20.0, (len(time), vms, 6))
    demand = level * shape[:, None, None] * noise
    demand[..., MEMORY] = 2e9 * (1 + 0.02 * generator.standard_normal((len(time), vms)))
    return demand


def watched(demand: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Whether each VM was anomalous, its kind and its score, arrays (time, vm)."""
    watch = Watch(ALL, [floor_of(r) for r in ALL], STEP)
    limit = np.broadcast_to(LIMIT, demand.shape[1:])
    found = [watch.step(row, limit, i * STEP) for i, row in enumerate(demand)]
    return tuple(np.array([getattr(f, name) for f in found]) for name in ("anomalous", "kind", "score"))  # type: ignore[return-value]


def leak(own: FloatArray) -> None:
    own[:, MEMORY] = np.linspace(2e9, 7.5e9, len(own))


def runaway(own: FloatArray) -> None:
    own[:, CPU] = 3.9


def scan(own: FloatArray) -> None:
    own[:, [RX, TX]] += 3e7


def silence(own: FloatArray) -> None:
    own[:, [CPU, READ, WRITE, RX, TX]] *= 0.01


def test_each_kind_is_seen_and_told_apart_and_ends() -> None:
    """One VM of each kind, between neighbours that do nothing unusual."""
    demand, at = ordinary(10, vms=8), slice(8 * DAY, 8 * DAY + 72)
    kinds = {1: Kind.LEAK, 3: Kind.RUNAWAY, 4: Kind.SCAN_LIKE, 6: Kind.SILENT}
    for vm, change in zip(kinds, (leak, runaway, scan, silence), strict=True):
        change(demand[at, vm])
    anomalous, kind, score = watched(demand)
    for vm, expected in kinds.items():
        assert anomalous[at, vm].any(), expected
        named = kind[at, vm][anomalous[at, vm]]
        assert KINDS[np.bincount(named).argmax()] is expected
    assert not anomalous[:, [0, 2, 5, 7]].any(), "the neighbours did nothing"
    assert not anomalous[: at.start].any(), "nothing before it"
    assert not anomalous[-1].any(), "it ends"
    assert score.min() >= 0
    assert score.max() <= 1


def test_ordinary_weeks_of_many_vms_hold_few_anomalies() -> None:
    anomalous, _, _ = watched(ordinary(14, vms=60, seed=3))
    begun = (anomalous[1:] & ~anomalous[:-1]).sum()
    assert begun / 60 <= 0.05, "episodes a VM in two weeks"


def test_a_young_vm_is_never_anomalous() -> None:
    demand = ordinary(3)
    demand[DAY:, 1] *= 30
    anomalous, _, _ = watched(demand[: 3 * DAY - 1])
    assert not anomalous.any()


def test_resources_that_part_company_surprise_more_than_both_rising_together() -> None:
    generator = np.random.default_rng(1)
    common = generator.gamma(4.0, 0.25, 3000)
    values = np.stack([common, 10 * common], axis=1) * generator.normal(1, 0.02, (3000, 2))
    together, apart = Surprise([0.0, 0.0]), Surprise([0.0, 0.0])
    for i, row in enumerate(values):
        together.step(row[None], i * STEP)
        apart.step(row[None], i * STEP)
    usual = values.mean(axis=0)
    rising = together.step(3 * usual[None], 3000 * STEP).evidence[0]
    parting = apart.step((usual * np.array([3.0, 0.1]))[None], 3000 * STEP).evidence[0]
    assert parting > 1.3 * rising


def test_a_vm_that_is_held_to_less_than_it_would_take_stays_anomalous() -> None:
    """Its usual peaks are as high as what it is held to: that it uses all of it keeps it anomalous."""
    demand = ordinary(6, vms=1)
    demand[::DAY, 0, CPU] = 2.0
    demand[4 * DAY :, 0, CPU] = 3.95
    watch = Watch(ALL, [floor_of(r) for r in ALL], STEP)
    limit, found = LIMIT[None], []
    for i, row in enumerate(demand):
        ceiling = limit.copy()
        if found and found[-1]:
            ceiling[0, CPU] = 2.0
        found.append(bool(watch.step(np.minimum(row, ceiling), limit, i * STEP, ceiling).anomalous[0]))
    after = np.array(found[4 * DAY + 12 : 5 * DAY])
    assert after.mean() > 0.95


def test_a_vm_that_is_switched_off_is_not_anomalous_for_long_and_begins_anew() -> None:
    demand = ordinary(7)
    runaway(demand[4 * DAY : 4 * DAY + 36, 1])
    demand[4 * DAY + 36 : 6 * DAY] = np.nan
    anomalous, _, _ = watched(demand)
    assert anomalous[4 * DAY + 35, 1]
    assert not anomalous[4 * DAY + 36 + 12 : 6 * DAY].any()
    assert not anomalous[6 * DAY :, 1].any()


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.0, 0.4))
def test_scores_are_causal_bounded_and_survive_gaps_and_retired_vms(seed: int, gaps: float) -> None:
    generator = np.random.default_rng(seed)
    values = generator.gamma(0.5, 1e6, (80, 5, 3))
    values[generator.random(values.shape) < gaps] = np.nan
    whole, again, few = (Surprise([1.0, 1.0, 1.0]) for _ in range(3))
    kept = np.array([0, 2, 3])
    for i in range(60):
        found = whole.step(values[i], i * STEP)
        assert (found.score >= 0).all()
        assert (found.score <= 1).all()
        assert again.step(values[i], i * STEP).score.tolist() == found.score.tolist()
        few.step(values[i], i * STEP)
    few.keep(kept)
    for i in range(60, 80):
        found = whole.step(values[i], i * STEP)
        np.testing.assert_allclose(few.step(values[i][kept], i * STEP).score, found.score[kept], rtol=1e-9)


def test_a_vm_that_comes_later_does_not_change_the_others() -> None:
    demand = ordinary(4, vms=3)
    alone, joined = (Watch(ALL, [floor_of(r) for r in ALL], STEP) for _ in range(2))
    for i, row in enumerate(demand):
        vms = 2 if i < 500 else 3
        a = alone.step(row[:2], np.broadcast_to(LIMIT, (2, 6)), i * STEP)
        b = joined.step(row[:vms], np.broadcast_to(LIMIT, (vms, 6)), i * STEP)
        assert a.score.tolist() == b.score[:2].tolist()


def test_the_cause_is_named() -> None:
    """The share of each resource in what is unusual: of the one that went astray most of it."""
    demand = ordinary(6)
    demand[-6:, 1, TX] *= 40
    demand[-6:, 2, CPU] *= 8
    watch = Watch(ALL, [floor_of(r) for r in ALL], STEP)
    limit = np.broadcast_to(LIMIT, demand.shape[1:])
    found = [watch.step(row, limit, i * STEP) for i, row in enumerate(demand)][-1]
    assert found.cause[1].argmax() == TX
    assert found.cause[2].argmax() == CPU
    assert found.cause[[1, 2], [TX, CPU]].min() > 0.5
    assert np.allclose(found.cause.sum(axis=1), 1.0, atol=1e-6)
    watch.keep(np.array([0, 2]))
    kept = watch.step(demand[-1, [0, 2]], limit[:2], len(demand) * STEP)
    assert kept.cause[1].argmax() == CPU
