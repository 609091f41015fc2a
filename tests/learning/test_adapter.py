"""The adapter: a VM that the network does not fit is fitted, one that it fits is left alone, gaps change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from forestall.learning.recurrent.adapter import Adapter
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.samples import Float32Array, FloatArray
from forestall.profiling.window import Window

MEAN1, MEAN3 = Target(Statistic.MEAN, 1), Target(Statistic.MEAN, 3)
SAID: FloatArray = norm.ppf(LEVELS)


def pinball(quantiles: FloatArray, actual: FloatArray) -> float:
    error = actual[..., None] - quantiles
    levels = np.asarray(LEVELS)
    return float(np.maximum(levels * error, (levels - 1.0) * error).mean())


def drive(
    demand: FloatArray, targets: tuple[Target, ...] = (MEAN1,), *, limit: float = np.inf
) -> tuple[Adapter, list[Float32Array], Float32Array]:
    """Say at every step that demand will be a standard normal around 100, in units of one."""
    window, adapter = Window(300, 1e-3), Adapter(targets, LEVELS)
    vms = demand.shape[1]
    said = np.broadcast_to(SAID, (len(targets), vms, len(LEVELS))).astype(np.float32)
    made = []
    for row in demand:
        window.push(row, np.full(vms, limit))
        adapter.learn(window)
        adapter.issue(said, np.full(vms, 100.0), np.ones(vms))
        made.append(adapter.apply(said))
    return adapter, made, said


@pytest.mark.parametrize(("shift", "stretch"), [(1.0, 1.0), (-0.6, 1.0), (0.0, 2.0), (0.5, 0.5)])
def test_a_vm_that_the_network_does_not_fit_is_fitted(shift: float, stretch: float) -> None:
    came = shift + stretch * np.random.default_rng(0).normal(size=(3000, 1))
    _, made, said = drive(100.0 + came, (MEAN1, MEAN3))
    for k, (target, gain) in enumerate(((MEAN1, 0.25), (MEAN3, 0.1))):
        fitted = np.stack([m[k] for m in made[1500 : -target.steps]])
        actual = came[1500 + target.steps :]
        unfitted, possible = (pinball(q, actual) for q in (said[k], shift + stretch * SAID[None]))
        assert pinball(fitted, actual) < unfitted - gain * (unfitted - possible)


def test_a_vm_that_rests_and_bursts_has_a_narrow_body_and_a_long_tail() -> None:
    generator = np.random.default_rng(4)
    came = np.where(generator.random((4000, 10)) < 0.03, 60.0, 0.1 * generator.normal(size=(4000, 10)))
    _, made, said = drive(100.0 + came)
    fitted, actual = np.stack([m[0] for m in made[1000:-1]]), came[1001:]
    for level, share in ((0.75, 1.0), (0.9, 1.0), (0.975, 1.0), (0.99, 0.97), (0.999, 0.9)):
        k = LEVELS.index(level)
        with_it, without = (
            np.maximum(level * error, (level - 1.0) * error).mean()
            for error in (actual - fitted[..., k], actual - said[0, :, k])
        )
        assert with_it < share * without, level


def test_a_vm_that_it_fits_is_left_alone() -> None:
    came = np.random.default_rng(1).normal(size=(2000, 4))
    _, made, said = drive(100.0 + came)
    fitted = np.stack([m[0] for m in made[1000:-1]])
    assert pinball(fitted, came[1001:]) < 1.02 * pinball(said[0].astype(np.float64), came[1001:])


def test_quantiles_stay_in_order_whatever_comes() -> None:
    demand = np.random.default_rng(2).choice([0.0, 100.0, 1e9, np.nan], (500, 3))
    _, made, _ = drive(demand)
    for fitted in made:
        assert np.isfinite(fitted).all()
        assert (np.diff(fitted, axis=-1) >= 0).all()


def test_gaps_teach_nothing_and_what_is_above_the_limit_counts_as_the_limit() -> None:
    gap, _, _ = drive(np.full((100, 1), np.nan))
    assert (gap._learned == 0).all()
    high, _, _ = drive(np.full((100, 1), 130.0), limit=100.0)
    capped, _, _ = drive(np.full((100, 1), 100.0), limit=100.0)
    np.testing.assert_array_equal(high._learned, capped._learned)


def test_a_vm_that_is_forgotten_takes_nothing_along() -> None:
    came = np.random.default_rng(3).normal(size=(400, 3)) + np.array([2.0, 0.0, -2.0])
    adapter, made, said = drive(100.0 + came, (MEAN1, MEAN3))
    adapter.keep(np.array([0, 2]))
    np.testing.assert_array_equal(adapter.apply(said[:, :2]), made[-1][:, [0, 2]])
