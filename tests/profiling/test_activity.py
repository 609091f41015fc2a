"""How many people use a VM: what is told, what is usual, and nothing where nobody tells."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.profiling.activity import ACTIVE, Activity


def test_nothing_is_known_where_nobody_tells() -> None:
    activity = Activity(288)
    assert (activity.figures(3) == np.zeros((ACTIVE, 3))).all()
    activity.observe(np.full(2, np.nan))
    assert (activity.figures(3) == 0).all()


def test_more_people_than_usual_are_seen() -> None:
    activity = Activity(288)
    for _ in range(300):
        activity.observe(np.array([10.0, 10.0, np.nan]))
    activity.observe(np.array([40.0, np.nan, np.nan]))
    now, unusual = activity.figures(3)
    assert unusual[0] == pytest.approx(np.log(41 / 11), rel=0.02)
    assert unusual[1] == pytest.approx(0.0, abs=1e-9), "a gap says nothing new"
    assert now[0] > now[1] > now[2] == 0


def test_figures_are_bounded_and_follow_the_roster() -> None:
    activity = Activity(4)
    activity.observe(np.array([0.0, 1.0, 1e300]))
    activity.observe(np.array([1e300, -5.0, 0.0]))
    assert np.isfinite(activity.figures(3)).all()
    before = activity.figures(3)
    activity.keep(np.array([0, 2]))
    np.testing.assert_array_equal(activity.figures(2), before[:, [0, 2]])
