"""Rhythm: what recurs at regular intervals is heard ahead, whatever the interval; what does not is not."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.model.samples import FloatArray
from forestall.profiling.rhythm import ECHOES, KEPT, Rhythm


def beats(interval: float, count: int) -> FloatArray:
    """One window in each interval, which need not be a whole number of them (window, kind)."""
    series = np.zeros((count, 1))
    series[np.arange(0, count, interval).astype(int)] = 1.0
    return series


def heard(series: FloatArray) -> FloatArray:
    """Echoes (window, horizon, kind)."""
    rhythm = Rhythm(series.shape[1])
    return np.array([rhythm.step(values) for values in series])


@pytest.mark.parametrize("interval", [10, 30, 51.2, 256])
def test_the_next_beat_is_heard_before_it_comes(interval: float) -> None:
    series = beats(interval, 2000)
    echo = heard(series)[1000:-10]
    for horizon in (1, 5, 10):
        ahead = np.array([series[i + 1 : i + 1 + horizon].mean() for i in range(1000, 1990)])
        assert np.corrcoef(echo[:, ECHOES.index(horizon), 0], ahead)[0, 1] > 0.7


def test_echoes_are_means_of_what_came_an_interval_ago() -> None:
    series = beats(40, 1200)
    echo = heard(series)[1199 - 1199 % 40 - 1]  # the beat comes next
    assert echo[:, 0] == pytest.approx([1 / horizon for horizon in ECHOES])


def test_what_comes_at_random_or_never_has_no_rhythm() -> None:
    generator = np.random.default_rng(0)
    series = np.stack([generator.random(1500) < 0.3, np.zeros(1500)], axis=1).astype(float)
    echo = heard(series)[-1]
    assert np.isnan(echo).all()


def test_nothing_is_heard_at_first() -> None:
    assert np.isnan(heard(beats(10, 90))).all()


def test_a_new_rhythm_replaces_the_old_one_however_long_the_old_one_was() -> None:
    series = np.concatenate([beats(40, 3 * KEPT), beats(25, 2 * KEPT)])
    echo = heard(series)[-1000:-1, 0, 0]
    assert np.corrcoef(echo, series[-999:, 0])[0, 1] > 0.9


def test_what_happens_in_every_window_has_no_rhythm_and_is_survived_for_ever() -> None:
    assert np.isnan(heard(np.ones((4 * KEPT, 1)))[-1]).all()
