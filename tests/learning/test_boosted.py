"""The boosted model: trained on the past on schedule, the same for the same seed, better than persistence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from series import STEP_SECONDS, fleet

from forestall.learning.boosted import Boosted, BoostedSettings, Reservoir, TargetModel
from forestall.learning.past import Past
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray

MEAN1, PEAK3 = Target(Statistic.MEAN, 1), Target(Statistic.PEAK, 3)
QUICK = BoostedSettings(min_rows=300, rounds=20, first_training_seconds=6 * 3600)
MEDIAN = LEVELS.index(0.5)


class Drive:
    """A boosted model driven over a series; keeps what it forecast, and after how many steps it was trained."""

    def __init__(self, demand: FloatArray, settings: BoostedSettings = QUICK, limit: float = 8.0) -> None:
        past = Past(Resource.CPU, STEP_SECONDS)
        window = past.window
        self.model = Boosted((MEAN1, PEAK3), (MEAN1,), LEVELS, 1440, settings, past)
        self.forecasts: list[FloatArray] = []
        self.trained: list[int] = []
        for i, row in enumerate(demand):
            past.take_in(row, np.full(len(row), limit), i * STEP_SECONDS)
            self.model.observe(window, i * STEP_SECONDS)
            if self.model.train_when_due(window):
                self.trained.append(i + 1)
            self.forecasts.append(self.model.forecast(window, i * STEP_SECONDS))


def test_the_same_seed_gives_the_same_forecasts() -> None:
    demand = fleet(120)
    first, again, other = Drive(demand), Drive(demand), Drive(demand, replace(QUICK, seed=1))
    np.testing.assert_array_equal(np.stack(first.forecasts), np.stack(again.forecasts))
    assert not np.array_equal(first.forecasts[-1], other.forecasts[-1], equal_nan=True)


def test_it_is_silent_before_its_first_training_and_follows_its_schedule() -> None:
    settings = replace(QUICK, rounds=2, retrain_seconds=20 * 3600)
    drive = Drive(fleet(760), settings)
    assert drive.trained == [72, 144, 288, 528]  # 6 h, doubled, doubled, then every 20 h
    assert np.isnan(np.stack(drive.forecasts[:71])).all()
    assert np.isfinite(drive.forecasts[71][0]).all()
    assert np.isnan(drive.forecasts[-1][1]).all(), "a target without a model"


def test_too_few_rows_are_waited_for() -> None:
    drive = Drive(fleet(100), replace(QUICK, min_rows=500, rounds=2))
    assert len(drive.trained) == 1
    assert 500 / 6 <= drive.trained[0] <= 90


def test_it_beats_the_last_value_where_there_is_something_to_learn() -> None:
    time = np.arange(500)
    wave = 2.0 + np.sin(2 * np.pi * (time[:, None] + np.arange(4) * 3) / 12)
    demand = wave + np.random.default_rng(1).normal(0, 0.05, wave.shape)
    drive = Drive(demand, replace(QUICK, rounds=60))
    median = np.stack([f[0, :, MEDIAN] for f in drive.forecasts])
    error = np.abs(median[300:-1] - demand[301:]).mean()
    assert error < 0.5 * np.abs(demand[301:] - demand[300:-1]).mean()


def test_a_vm_without_a_known_limit_is_learned_from_too() -> None:
    assert Drive(fleet(100), limit=np.nan).trained == Drive(fleet(100)).trained


def test_upper_quantiles_hold() -> None:
    demand = np.random.default_rng(2).gamma(2.0, 1.0, (600, 8))
    drive = Drive(demand, replace(QUICK, rounds=40))
    made = np.stack([f[0] for f in drive.forecasts])[200:-1]
    met = (demand[201:, :, None] <= made).mean(axis=(0, 1))
    assert met[LEVELS.index(0.9)] == pytest.approx(0.9, abs=0.06)
    assert met[LEVELS.index(0.5)] == pytest.approx(0.5, abs=0.08)
    assert (np.diff(made, axis=-1) >= 0).all()


def test_the_reservoir_is_bounded_and_a_sample_of_everything() -> None:
    reservoir = Reservoir(500, np.random.default_rng(0))
    for i in range(100):
        reservoir.add(np.full((30, 3), i, np.float32), np.full((2, 30), float(i)))
    assert reservoir.filled == 500
    assert reservoir.features.shape == (500, 3)
    np.testing.assert_array_equal(reservoir.features[:, 0], reservoir.values[0])
    assert len(np.unique(reservoir.features[:, 0])) > 30


def test_the_reservoir_takes_more_rows_than_it_holds() -> None:
    reservoir = Reservoir(10, np.random.default_rng(0))
    reservoir.add(np.ones((50, 2), np.float32), np.ones((2, 50)))
    assert reservoir.filled == 10
    assert (reservoir.features == 1).all()


def test_training_needs_rows() -> None:
    assert not TargetModel(MEAN1, QUICK).train()
