"""The learner end to end: coverage, newcomers, and quantiles that never cross."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from series import STEP_SECONDS, fleet

from forestall.learning.boosted import BoostedSettings
from forestall.learning.learner import Learner, LearnerSettings
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray

MEAN1, MEAN3, PEAK6 = Target(Statistic.MEAN, 1), Target(Statistic.MEAN, 3), Target(Statistic.PEAK, 6)
TARGETS = (MEAN1, MEAN3, PEAK6)
QUICK = BoostedSettings(min_rows=500, rounds=10)


def _learner(boosted: tuple[Target, ...] = (MEAN1,)) -> Learner:
    return Learner(Resource.CPU, STEP_SECONDS, LearnerSettings(TARGETS, boosted, boosted=QUICK))


def _run(learner: Learner, rows: list[FloatArray], limit: float = 8.0) -> list[FloatArray]:
    return [_step(learner, row, i, limit) for i, row in enumerate(rows)]


def _step(learner: Learner, row: FloatArray, step: int, limit: float = 8.0) -> FloatArray:
    learner.take_in(row, np.full(len(row), limit), step * STEP_SECONDS)
    return learner.step(step * STEP_SECONDS)


def test_coverage_is_what_is_promised() -> None:
    demand = fleet(900)
    made = _run(_learner(), list(demand))
    for target, tolerance in ((MEAN1, 1.0), (MEAN3, 1.5)):
        quantiles = np.stack([f[TARGETS.index(target)] for f in made])[: -target.steps]
        actual = demand[target.steps :]
        rows = slice(300, None)
        seen = ~np.isnan(actual[rows])
        met = (actual[rows, :, None] <= quantiles[rows])[seen].mean(axis=0)
        for level in (0.9, 0.95, 0.99):
            off = tolerance * (0.2 * (1 - level) + 0.012)
            assert met[LEVELS.index(level)] == pytest.approx(level, abs=off), target


def test_the_peak_is_covered_too() -> None:
    demand = fleet(700, gap_ratio=0.0)
    made = np.stack([f[TARGETS.index(PEAK6)] for f in _run(_learner(), list(demand))])
    peak = np.max([demand[s : len(demand) - 6 + s] for s in range(1, 7)], axis=0)
    met = (peak[250:, :, None] <= made[250:-6]).mean(axis=(0, 1))
    assert met[LEVELS.index(0.95)] == pytest.approx(0.95, abs=0.035)


def test_a_vm_that_comes_later_changes_no_earlier_forecast() -> None:
    demand = fleet(130)
    alone = _run(_learner(), [row[:5] for row in demand])
    joined = _run(_learner(), [row[: 5 + (i >= 100)] for i, row in enumerate(demand)])
    for a, b in zip(alone[:100], joined[:100], strict=True):
        np.testing.assert_array_equal(a, b)
    assert joined[-1].shape == (3, 6, len(LEVELS))
    assert np.isfinite(joined[-1]).all()


def test_history_that_is_absorbed_trains_the_model() -> None:
    demand = fleet(200)
    learner = _learner()
    for i, row in enumerate(demand[:150]):
        learner.take_in(row, np.full(6, 8.0), i * STEP_SECONDS)
        learner.absorb(i * STEP_SECONDS)
    made = _step(learner, demand[150], 150)
    assert np.isfinite(made[0]).all(), "the boosted model speaks at the first step"
    assert learner.weights().shape == (3, len(learner.experts), 6)
    np.testing.assert_allclose(learner.weights().sum(axis=1), 1.0)


def test_one_wild_sample_does_not_spoil_the_scale() -> None:
    demand = np.random.default_rng(1).gamma(2.0, 0.2, (80, 2))
    wild = demand.copy()
    wild[40, 0] = 1e6
    calm, after = _run(_learner(()), list(demand))[-1], _run(_learner(()), list(wild))[-1]
    i = LEVELS.index(0.9)
    assert after[0, 0, i] < 5 * calm[0, 0, i] + 1.0


@given(
    arrays(
        np.float64,
        (16, 3),
        elements=st.one_of(st.floats(0, 1e6), st.just(np.nan), st.just(0.0), st.just(1.0)),
    ),
    st.sampled_from([0.0, 1.0, np.inf, np.nan]),
)
@settings(max_examples=40)
def test_quantiles_never_cross(demand: FloatArray, limit: float) -> None:
    for made in _run(_learner(()), list(demand), limit):
        known = ~np.isnan(made)
        assert (known.all(axis=-1) == known.any(axis=-1)).all()
        assert not np.isinf(made).any()
        assert (made[known] >= 0).all()
        assert (np.diff(made, axis=-1)[known[..., 1:]] >= 0).all()


def test_what_is_left_out_does_nothing() -> None:
    demand = list(fleet(160))

    def made(*left_out: str) -> tuple[Learner, FloatArray]:
        learner = Learner(
            Resource.CPU, STEP_SECONDS, LearnerSettings(TARGETS, (MEAN1,), boosted=QUICK, without=frozenset(left_out))
        )
        return learner, _run(learner, demand)[-1]

    learner, alone = made("combination", "calibration")
    last = learner.experts[-1].forecast(learner.window, 159 * STEP_SECONDS)
    np.testing.assert_array_equal(alone[0], last[0])
    assert not np.isnan(alone).any(), "what the last expert does not forecast, one before it does"
    _, combined = made("calibration")
    _, whole = made()
    assert not np.array_equal(combined, alone)
    assert not np.array_equal(combined, whole)
