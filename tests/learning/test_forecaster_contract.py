"""Every forecaster keeps the contract."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forestall.learning.analogue import Analogue
from forestall.learning.boosted import Boosted, BoostedSettings
from forestall.learning.expert import Forecaster, RuleForecaster
from forestall.learning.rules import LastValue, MovingPeak, PointRule, SeasonalNaive, Smoothing
from forestall.learning.window import Window
from forestall.model.forecast import LEVELS
from forestall.model.samples import FloatArray, IntArray
from forestall.testing.forecaster import TARGETS, ForecasterContract

RULES: tuple[Callable[[], PointRule], ...] = (LastValue, Smoothing, MovingPeak, SeasonalNaive, Analogue)


class TestRules(ForecasterContract):
    @pytest.fixture(params=RULES, ids=lambda rule: rule.name)
    def make(self, request: pytest.FixtureRequest) -> Callable[[], Forecaster]:
        return lambda: RuleForecaster(request.param(), TARGETS, LEVELS, 1440)

    def test_growing_equals_beginning_with_gaps(self, make: Callable[[], Forecaster]) -> None:
        demand = self.noise(vms=5)
        demand[:25, 3:] = np.nan
        grown = self.drive(make(), [row[: 3 + 2 * (i >= 25)] for i, row in enumerate(demand)])
        whole = self.drive(make(), list(demand))
        for a, b in zip(grown, whole, strict=True):
            np.testing.assert_array_equal(a, b[:, : a.shape[1]])


class _Trained:
    """The boosted model as the learner drives it: the season observed, trained when due."""

    name = "boosted"

    def __init__(self) -> None:
        settings = BoostedSettings(min_rows=100, rounds=10, first_training_seconds=3 * 3600)
        self._season = SeasonalNaive()
        self._model = Boosted(TARGETS, TARGETS[:1], LEVELS, 1440, settings, self._season)

    def observe(self, window: Window, now: int) -> None:
        self._season.observe(window)
        self._model.observe(window, now)
        self._model.train_when_due(window)

    def forecast(self, window: Window, now: int) -> FloatArray:
        return self._model.forecast(window, now)

    def keep(self, rows: IntArray) -> None:
        self._season.keep(rows)
        self._model.keep(rows)


class TestBoosted(ForecasterContract):
    spoken = TARGETS[:1]
    quiet_steps = 38
    coverage_tolerance = 0.1

    @pytest.fixture
    def make(self) -> Callable[[], Forecaster]:
        return _Trained
