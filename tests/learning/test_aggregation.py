"""Aggregation of experts: trust goes to the best, moves after a change, and costs little against it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forestall.learning.aggregation import Aggregation, pinball
from forestall.model.samples import FloatArray

LEVELS = (0.1, 0.5, 0.9, 0.99)
Z = np.array([-1.2816, 0.0, 1.2816, 2.3263])


def _experts(actual: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Quantiles (time, expert, vm, level): a good one, a biased one, a wild one."""
    steps, vms = actual.shape
    good = np.broadcast_to(2.0 + 0.5 * Z, (steps, vms, 4))
    wild = 2.0 + generator.normal(0, 1.0, (steps, vms, 1)) + 0.5 * Z
    return np.stack([good, good + 0.6, wild], axis=1)


def _run(experts: FloatArray, actual: FloatArray) -> tuple[Aggregation, FloatArray]:
    model = Aggregation(experts.shape[1], LEVELS)
    model.grow(actual.shape[1])
    combined = []
    for quantiles, seen in zip(experts, actual, strict=True):
        combined.append(model.combine(quantiles))
        model.update(quantiles, combined[-1], seen)
    return model, np.stack(combined)


def _loss(quantiles: FloatArray, actual: FloatArray) -> FloatArray:
    return np.stack([pinball(q, np.array(LEVELS), a) for q, a in zip(quantiles, actual, strict=True)])


def test_pinball() -> None:
    got = pinball(np.array([[1.0, 2.0]]), np.array([0.5, 0.9]), np.array([1.5]))
    np.testing.assert_allclose(got, [[0.25, 0.05]])


def test_trust_goes_to_the_best_and_costs_little() -> None:
    generator = np.random.default_rng(1)
    actual = generator.normal(2.0, 0.5, (1500, 5))
    experts = _experts(actual, generator)
    model, combined = _run(experts, actual)
    weights = model.weights()
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    assert (weights.argmax(axis=0) == 0).mean() >= 0.8
    best = min(_loss(experts[500:, e], actual[500:]).mean() for e in range(3))
    assert _loss(combined[500:], actual[500:]).mean() <= 1.1 * best


def test_trust_moves_after_a_change() -> None:
    generator = np.random.default_rng(2)
    actual = generator.normal(2.0, 0.5, (3000, 4))
    experts = _experts(actual, generator)[:, :2]
    experts[1500:] = experts[1500:, ::-1]
    before, _ = _run(experts[:1500], actual[:1500])
    after, combined = _run(experts, actual)
    assert (before.weights()[0].mean(axis=0)[1:3] > 0.6).all()
    assert (after.weights()[1].mean(axis=0)[1:3] > 0.6).all()
    assert _loss(combined[2200:], actual[2200:]).mean() <= 1.1 * _loss(experts[2200:, 1], actual[2200:]).mean()


def test_where_outcomes_overlap_trust_moves_more_slowly() -> None:
    generator = np.random.default_rng(2)
    actual = generator.normal(2.0, 0.5, (6, 4))
    experts = _experts(actual, generator)
    moved = []
    for overlap in (1, 24):
        model = Aggregation(3, LEVELS, overlap=overlap)
        model.grow(4)
        for quantiles, seen in zip(experts, actual, strict=True):
            model.update(quantiles, quantiles.mean(axis=0), seen)
        moved.append(np.abs(model.weights() - 1 / 3).mean())
    assert 0.02 < moved[1] < 0.7 * moved[0]


def test_a_silent_expert_is_left_out() -> None:
    generator = np.random.default_rng(3)
    actual = generator.normal(2.0, 0.5, (200, 3))
    experts = _experts(actual, generator)
    experts[:, 0, 1] = np.nan
    model, combined = _run(experts, actual)
    assert np.isfinite(combined).all()
    assert (combined[:, 1, 1] >= experts[:, 1:, 1, 1].min(axis=1) - 1e-9).all()
    experts[:, :, 2] = np.nan
    _, combined = _run(experts, actual)
    assert np.isnan(combined[:, 2]).all()
    assert np.isfinite(combined[:, :2]).all()
    np.testing.assert_allclose(model.weights().sum(axis=0), 1.0)


def test_gaps_change_nothing() -> None:
    generator = np.random.default_rng(4)
    actual = generator.normal(2.0, 0.5, (100, 3))
    model, combined = _run(_experts(actual, generator), actual)
    before = model.weights()
    model.update(_experts(actual, generator)[0], combined[0], np.full(3, np.nan))
    np.testing.assert_array_equal(model.weights(), before)


def test_a_young_vm_trusts_whom_the_fleet_trusts() -> None:
    generator = np.random.default_rng(5)
    actual = generator.normal(2.0, 0.5, (1000, 3))
    model, _ = _run(_experts(actual, generator), actual)
    model.grow(4)
    young = model.weights()[:, 3]
    assert (young.argmax(axis=0) == model.weights()[:, :3].mean(axis=1).argmax(axis=0)).all()
    assert (young.max(axis=0)[1:3] > 0.5).all()


@given(
    arrays(np.float64, (3, 2, 4), elements=st.floats(0, 1e12, allow_subnormal=False)),
    arrays(np.float64, 2, elements=st.one_of(st.floats(0, 1e12), st.just(np.nan))),
)
@settings(max_examples=60)
def test_quantiles_never_cross_and_weights_sum_to_one(quantiles: FloatArray, actual: FloatArray) -> None:
    quantiles = np.sort(quantiles, axis=-1)
    model = Aggregation(3, LEVELS)
    model.grow(2)
    for _ in range(5):
        combined = model.combine(quantiles)
        model.update(quantiles, combined, actual)
    assert (np.diff(combined, axis=-1) >= 0).all()
    assert (combined >= quantiles.min(axis=0) * (1 - 1e-9)).all()
    assert (combined <= quantiles.max(axis=0) * (1 + 1e-9)).all()
    np.testing.assert_allclose(model.weights().sum(axis=0), 1.0)
