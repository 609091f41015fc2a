"""What is seen of VMs beat by beat, and the simple experts on the highest use to come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.learning.peaks.analogue import BUSIEST, AnaloguePaths
from forestall.learning.peaks.beats import FEATURES, LEAST_SCALE_CORES, SLOW_BEATS, Beats
from forestall.learning.peaks.linear import OnlineLinear
from forestall.learning.peaks.model import LEVELS
from forestall.learning.peaks.recent import Recent
from forestall.learning.peaks.tracked import Tracked
from forestall.learning.peaks.trust import PeakTrust

BEATS = 4000


def beats(*series: np.ndarray) -> tuple[np.ndarray, Beats]:
    """Features (beat, series, feature) of series that are their own peaks."""
    walk = Beats()
    walk.grow(len(series))
    return np.stack([walk.step(now, now) for now in np.stack(series, axis=1)]), walk


def test_features_have_no_unit() -> None:
    rng = np.random.default_rng(0)
    use = rng.random(500) + 0.1
    (small, large), _ = beats(use, 7 * use)[0].transpose(1, 0, 2), None
    np.testing.assert_allclose(small[200:], large[200:], rtol=1e-5)
    assert small.shape == (500, FEATURES)


def test_the_scale_is_the_highest_use_and_fades() -> None:
    use = np.zeros(1 + int(SLOW_BEATS))
    use[0] = 4.0
    assert beats(use)[1].scale[0] == pytest.approx(2.0, rel=1e-6)
    assert beats(np.zeros(20_000))[1].scale[0] == LEAST_SCALE_CORES


def test_how_long_a_stretch_lasts_is_seen_and_remembered() -> None:
    use = np.tile(np.r_[np.full(5, 1.0), np.zeros(15)], 40)
    seen, _ = beats(use)
    length, usual_off, usual_on, on = (seen[-1, 0, k] for k in (8, 9, 10, 11))
    assert on == 0.0
    assert 4 * length == pytest.approx(np.log1p(15), rel=1e-5)
    assert 4 * usual_off == pytest.approx(np.log1p(15), rel=0.02)
    assert 4 * usual_on == pytest.approx(np.log1p(5), rel=0.02)


def test_series_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.random(300), rng.random(300) * 5
    np.testing.assert_array_equal(beats(one, other)[0][:, 0], beats(one)[0][:, 0])


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=90), st.integers(1, 12))
def test_recent_is_what_came_last(use: list[float], beats_back: int) -> None:
    recent = Recent(10)
    recent.grow(2)
    for value in use:
        recent.push(np.array([value, -value]))
    expected = use[-min(beats_back, 10) :]
    assert recent.last(beats_back)[:, 0].tolist() == expected
    assert recent.peak(beats_back)[0] == max(expected)


def test_tracked_quantiles_are_exceeded_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    tracked, above = Tracked(1, 1), np.zeros(len(LEVELS))
    tracked.grow(1)
    base, scale = np.array([0.3]), np.array([1.0])
    for k, peak in enumerate(0.3 + rng.exponential(0.2, BEATS)):
        if k >= BEATS // 4:
            above += peak > tracked.forecast(base[:, None])[0, 0, 0]
        tracked.learn([0], base.reshape(1, 1, 1, 1), np.array([[peak]]), scale[None])
    shares = above / (BEATS - BEATS // 4)
    np.testing.assert_allclose(shares, 1 - np.array(LEVELS), atol=0.02)


def test_only_the_horizon_that_came_is_learned_from() -> None:
    tracked = Tracked(1, 2)
    tracked.grow(3)
    rng = np.random.default_rng(3)
    for peak in rng.random((200, 3)):
        tracked.learn([1], np.full((1, 1, 3, 1), 0.5), peak[None], np.ones((1, 3)))
    said = tracked.forecast(np.full((3, 1), 0.5))[0]
    assert (said[0] == 0.5).all()
    assert (said[1] != 0.5).any()


def test_of_a_base_that_is_silent_nothing_is_learned() -> None:
    tracked = Tracked(1, 1)
    tracked.grow(2)
    base = np.array([0.5, np.nan]).reshape(1, 1, 2, 1)
    tracked.learn([0], base, np.array([[2.0, 2.0]]), np.ones((1, 2)))
    said = tracked.forecast(np.full((2, 1), 0.5))[0, 0]
    assert (said[0] > 0.5).all()
    assert (said[1] == 0.5).all()


def test_trust_goes_to_who_is_right_and_silence_costs_nothing() -> None:
    rng = np.random.default_rng(6)
    trust = PeakTrust((0.4, 0.4, 0.2), 1)
    trust.grow(1)
    levels = np.asarray(LEVELS)
    for _ in range(2000):
        right = -0.3 * np.log(1 - levels)
        said = np.stack([right, 3 * right, np.full(len(levels), np.nan)])[:, None, None]
        combined = trust.combine(said)
        trust.learn([0], said, combined, rng.exponential(0.3, (1, 1)))
    weights = trust.weights()[:, 0, 0].mean(axis=1)
    assert weights[0] > 0.7
    assert weights[1] < 0.1
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(trust.combine(said)[0, 0], right, rtol=0.3)


def test_what_is_combined_never_falls_nor_is_below_zero() -> None:
    trust = PeakTrust((0.5, 0.5), 2)
    trust.grow(2)
    rng = np.random.default_rng(7)
    combined = trust.combine(rng.normal(size=(2, 2, 2, len(LEVELS))))
    assert (np.diff(combined, axis=-1) >= 0).all()
    assert (combined >= 0).all()


def walked(rng: np.random.Generator, vms: int, beats: int = 1200) -> tuple[AnaloguePaths, np.ndarray]:
    """Analogues that have seen VMs which are on for 5 beats in 20, and what they used."""
    use = np.zeros((beats, vms))
    for vm in range(vms):
        phase = (np.arange(beats) + 7 * vm) % 20
        use[:, vm] = np.where(phase < 5, 0.5 + 0.02 * rng.random(beats), 0.0)
    rows = np.concatenate([use.sum(axis=1, keepdims=True), use], axis=1)
    walk, paths = Beats(), AnaloguePaths((4, 10), np.random.default_rng(0))
    walk.grow(vms + 1)
    paths.grow(vms + 1)
    for now in rows:
        paths.push(walk.step(now, now), now)
        paths.look()
    return paths, rows


@pytest.mark.parametrize("at", [2, 6])
def test_what_came_after_such_moments_comes_again(at: int) -> None:
    paths, _ = walked(np.random.default_rng(8), 1, 1200 + at)
    said = paths.forecast()
    ahead = np.where((np.arange(at, at + 10)) % 20 < 5, 0.5, 0.0)
    for k, horizon in enumerate((4, 10)):
        expected = ahead[:horizon].max()
        assert said[k, 0, LEVELS.index(0.5)] == pytest.approx(expected, abs=0.03)
        np.testing.assert_array_equal(said[k, 0], said[k, 1])


def test_paths_of_vms_are_added_up() -> None:
    paths, _ = walked(np.random.default_rng(9), 3)
    said = paths.forecast()
    assert said.shape == (2, 4, len(LEVELS))
    assert (said[1] >= said[0]).all()
    assert (np.diff(said, axis=-1) >= 0).all()
    assert said[1, 0, -1] <= 1.6
    assert said[1, 0, -1] > said[1, 1:, -1].max()


def test_beyond_the_busiest_vms_others_are_one() -> None:
    paths, rows = walked(np.random.default_rng(10), BUSIEST + 4)
    said = paths.forecast()
    assert np.isfinite(said[:, 0]).all()
    assert np.isnan(said[0, 1:, 0]).sum() == 4
    assert said[1, 0, LEVELS.index(0.99)] <= rows[:, 0].max() * 2.0
    assert said[1, 0, LEVELS.index(0.99)] >= rows[:, 0].max() * 0.8


def test_young_and_lone_pools_have_no_analogues() -> None:
    assert np.isnan(walked(np.random.default_rng(11), 2, 20)[0].forecast()).all()
    alone = AnaloguePaths((4,), np.random.default_rng(0))
    alone.grow(1)
    for _ in range(100):
        alone.push(np.zeros((1, FEATURES), np.float32), np.zeros(1))
        alone.look()
    assert np.isnan(alone.forecast()).all()


def test_the_linear_model_finds_what_the_peak_depends_on() -> None:
    rng = np.random.default_rng(4)
    model = OnlineLinear(1)
    model.grow(1)
    scale, errors = np.ones(1), []
    median = LEVELS.index(0.5)
    for k in range(BEATS):
        features = rng.random((1, FEATURES)).astype(np.float32)
        peak = 0.2 + 0.6 * features[0, 4]
        if k >= BEATS - 500:
            errors.append(abs(model.forecast(features, scale)[0, 0, median] - peak))
        model.learn([0], features[None], scale[None], np.array([[peak]]))
    assert np.mean(errors) < 0.05


def test_experts_keep_the_rows_that_stay() -> None:
    rng = np.random.default_rng(5)
    tracked, linear = Tracked(1, 1), OnlineLinear(1)
    for part in (tracked, linear):
        part.grow(3)
    features = rng.random((3, FEATURES)).astype(np.float32)
    for peak in rng.random((50, 3)):
        tracked.learn([0], np.zeros((1, 1, 3, 1)), peak[None], np.ones((1, 3)))
        linear.learn([0], features[None], np.ones((1, 3)), peak[None])
    before = tracked.forecast(np.zeros((3, 1)))[0], linear.forecast(features, np.ones(3))
    for part in (tracked, linear):
        part.keep(np.array([0, 2]))
        part.grow(3)
    after = tracked.forecast(np.zeros((3, 1)))[0], linear.forecast(features[[0, 2, 1]], np.ones(3))
    np.testing.assert_array_equal(after[0][:, :2], before[0][:, [0, 2]])
    np.testing.assert_array_equal(after[1][:, :2], before[1][:, [0, 2]])
    assert not after[0][:, 2].any()
