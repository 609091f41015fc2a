"""Trust groups: whatever the VMs of one group do, forecasts of another are the same to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from series import STEP_SECONDS, fleet

from forestall.learning.boosted import BoostedSettings
from forestall.learning.learner import Learner, LearnerSettings
from forestall.model.forecast import Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray

MEAN1, PEAK6 = Target(Statistic.MEAN, 1), Target(Statistic.PEAK, 6)
GROUP = ("ours", "theirs") * 4
OURS = np.array(GROUP) == "ours"


def forecasts(demand: FloatArray, groups: Sequence[str], kept: IntArray | None = None) -> list[FloatArray]:
    """Forecasts of every step; at the middle all VMs but ``kept`` are forgotten."""
    boosted = BoostedSettings(min_rows=300, rounds=5)
    learner = Learner(Resource.CPU, STEP_SECONDS, LearnerSettings((MEAN1, PEAK6), (MEAN1,), boosted=boosted))
    learner.past.trust.assign(groups)
    made = []
    for i, row in enumerate(demand):
        if kept is not None and i == len(demand) // 2:
            learner.keep(kept)
        seen = row if kept is None or i < len(demand) // 2 else row[kept]
        learner.take_in(seen, np.full(len(seen), 8.0), i * STEP_SECONDS)
        made.append(learner.step(i * STEP_SECONDS))
    return made


@pytest.fixture(scope="module")
def demand() -> FloatArray:
    """A day and a bit: too short for a training that a drift of either group would bring forward."""
    return np.concatenate([fleet(320), fleet(320, seed=2)[:, :2]], axis=1)


@pytest.fixture(scope="module")
def other(demand: FloatArray) -> FloatArray:
    """The same, but for what the VMs of the other group do."""
    changed = demand.copy()
    changed[:, ~OURS] = np.random.default_rng(3).gamma(0.3, 4.0, changed[:, ~OURS].shape)
    return changed


def test_what_one_group_does_changes_nothing_for_another(demand: FloatArray, other: FloatArray) -> None:
    for a, b in zip(forecasts(demand, GROUP), forecasts(other, GROUP), strict=True):
        np.testing.assert_array_equal(a[:, OURS], b[:, OURS])


def test_within_a_group_it_does(demand: FloatArray, other: FloatArray) -> None:
    one = ("",) * 8
    a, b = forecasts(demand[:100], one)[-1], forecasts(other[:100], one)[-1]
    assert not np.array_equal(a[:, OURS], b[:, OURS])


def test_what_is_left_of_the_forgotten_stays_in_their_group(demand: FloatArray, other: FloatArray) -> None:
    kept = np.array([0, 1, 2, 3, 4])
    ours = OURS[kept]
    for a, b in zip(forecasts(demand[:200], GROUP, kept)[100:], forecasts(other[:200], GROUP, kept)[100:], strict=True):
        np.testing.assert_array_equal(a[:, ours], b[:, ours])
