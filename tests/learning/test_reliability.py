"""Reliability: which share of the outcomes lay at or below each quantile that was stated."""

from __future__ import annotations

import numpy as np
import pytest
from series import STEP_SECONDS, fleet

from forestall.learning.learner import Learner, LearnerSettings
from forestall.learning.reliability import HALF_LIFE_DAYS, Reliability
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray

DAY = 86_400 // STEP_SECONDS
MEAN1, MEAN3, PEAK6 = Target(Statistic.MEAN, 1), Target(Statistic.MEAN, 3), Target(Statistic.PEAK, 6)
TARGETS = (MEAN1, MEAN3, PEAK6)
LIMIT = 1.0
STATED = np.array([[1.0, 2.0], [1.0, 2.0], [10.0, 20.0], [10.0, 20.0]])
"""Quantiles (vm, level) of two levels."""
OUTCOMES = np.array([0.5, 1.5, 10.0, 21.0])
"""One below both, one between them, one at the lower, one above both."""


def two_levels() -> Reliability:
    """Nothing counted yet."""
    return Reliability((0.5, 0.9), DAY)


def test_what_was_met_is_counted_over_all_vms() -> None:
    found = two_levels()
    assert found.outcomes == 0.0
    assert np.isnan(found.shares()).all()
    found.update(STATED, OUTCOMES)
    assert found.outcomes == 4.0
    np.testing.assert_array_equal(found.shares(), [0.5, 0.75])


def test_where_nothing_was_seen_or_stated_there_is_no_outcome() -> None:
    found = two_levels()
    found.update(np.full((2, 2), np.nan), np.array([1.0, np.nan]))
    found.update(np.zeros((0, 2)), np.zeros(0))
    assert found.outcomes == 0.0
    stated, actual = np.vstack([STATED, np.full((1, 2), np.nan), STATED[:1]]), np.append(OUTCOMES, [1.0, np.nan])
    found.update(stated, actual)
    assert found.outcomes == 4.0
    np.testing.assert_array_equal(found.shares(), [0.5, 0.75])


def test_what_is_older_counts_for_less() -> None:
    found = two_levels()
    found.update(STATED, np.full(4, np.inf))
    for _ in range(round(HALF_LIFE_DAYS * DAY) - 1):
        found.update(STATED[:0], OUTCOMES[:0])
    np.testing.assert_array_equal(found.shares(), [0.0, 0.0])
    found.update(STATED[:2], np.zeros(2))
    assert found.outcomes == pytest.approx(2.0 + 2.0), "what is a half-life old counts for half"
    np.testing.assert_allclose(found.shares(), [0.5, 0.5])


def learner_of(targets: tuple[Target, ...]) -> Learner:
    """Without a model that takes long to train."""
    return Learner(Resource.CPU, STEP_SECONDS, LearnerSettings(targets))


def test_of_noise_that_is_always_the_same_shares_are_levels() -> None:
    learner, generator = learner_of((MEAN1,)), np.random.default_rng(4)
    for i in range(3 * DAY):
        learner.take_in(generator.gamma(2.0, 0.2, 6), np.full(6, 8.0), i * STEP_SECONDS)
        learner.step(i * STEP_SECONDS)
        if i == DAY:
            learner.reliability[0] = Reliability(LEVELS, DAY)
    (found,) = learner.reliability
    assert found.outcomes > 6 * DAY
    np.testing.assert_allclose(found.shares(), LEVELS, atol=0.05)


def told(learner: Learner, demand: FloatArray, here: BoolArray, absorbed: BoolArray) -> FloatArray:
    """Let demand (time, vm) come where a VM is here; what was stated (time, target, vm, level), NaN where nothing was.

    Some steps (time,) are only absorbed. A VM that is here no longer is forgotten.
    """
    stated = np.full((len(demand), len(TARGETS), demand.shape[1], len(LEVELS)), np.nan)
    for i, row in enumerate(demand):
        if i and (here[i - 1] & ~here[i]).any():
            learner.keep(np.flatnonzero(here[i][here[i - 1]]))
        learner.take_in(row[here[i]], np.full(here[i].sum(), LIMIT), i * STEP_SECONDS)
        if absorbed[i]:
            learner.absorb(i * STEP_SECONDS)
        else:
            made = np.minimum(learner.step(i * STEP_SECONDS), learner.most()[:, None]).astype(np.float32)
            stated[i][:, here[i]] = np.nextafter(made, np.float32(np.inf))
    return stated


def what_came(demand: FloatArray, target: Target) -> FloatArray:
    """Outcomes (time, vm) of what was forecast so many steps before: the sample, or the highest that was seen."""
    samples = np.minimum(demand, 1.5 * LIMIT).astype(np.float32).astype(np.float64)  # as it is learned from
    if target.statistic is Statistic.MEAN:
        return samples
    return np.array([np.fmax.reduce(samples[max(i - target.steps + 1, 0) : i + 1]) for i in range(len(samples))])


def counted(stated: FloatArray, came: FloatArray, steps: int, absorbed: BoolArray) -> tuple[float, FloatArray]:
    """Outcomes and shares by the definition: of what was stated (time, vm, level), and what came (time, vm).

    At steps (time,) that are only absorbed nothing is counted, and what was before does not become older.
    """
    counts = np.cumsum(~absorbed)
    weight = ~absorbed * 0.5 ** ((counts[-1] - counts) / (HALF_LIFE_DAYS * DAY))
    stated, came = stated[:-steps], came[steps:]
    known = weight[steps:, None] * (~np.isnan(came) & ~np.isnan(stated[..., 0]))
    return known.sum(), (known[..., None] * (came[..., None] <= stated)).sum(axis=(0, 1)) / known.sum()


@pytest.mark.parametrize("pause", [slice(0), slice(150, 155), slice(150, 200, 3)])
def test_what_was_stated_meets_what_came_of_it(pause: slice) -> None:
    """With gaps, VMs that come and go, and much demand above the limit: what is stated ends at what can come."""
    demand, here = fleet(300), np.ones((300, 6), dtype=bool)
    here[:40, 4:] = here[:90, 5] = here[200:, [0, 3]] = False
    absorbed = np.zeros(300, dtype=bool)
    absorbed[pause] = True
    learner = learner_of(TARGETS)
    stated = told(learner, demand, here, absorbed)
    for k, target in enumerate(TARGETS):
        came = np.where(here, what_came(demand, target), np.nan)
        outcomes, shares = counted(stated[:, k], came, target.steps, absorbed)
        assert learner.reliability[k].outcomes == pytest.approx(outcomes), target
        np.testing.assert_allclose(learner.reliability[k].shares(), shares, rtol=1e-9, err_msg=str(target))
