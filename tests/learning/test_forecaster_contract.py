"""Every forecaster keeps the contract."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forestall.learning.analogue import Analogue
from forestall.learning.boosted import Boosted, BoostedSettings
from forestall.learning.expert import RuleForecaster
from forestall.learning.past import Past
from forestall.learning.rules import LastValue, MovingPeak, PointRule, SeasonalNaive, Segment, Smoothing
from forestall.model.forecast import LEVELS
from forestall.profiling.window import Window
from forestall.testing.forecaster import TARGETS, ForecasterContract, Make

RULES: dict[str, Callable[[Past], PointRule]] = {
    "last_value": lambda past: LastValue(),
    "smoothing": lambda past: Smoothing(),
    "moving_peak": lambda past: MovingPeak(),
    "seasonal_naive": lambda past: SeasonalNaive(past.periods),
    "analogue": lambda past: Analogue(),
    "segment": lambda past: Segment(past.segments),
}


class TestRules(ForecasterContract):
    @pytest.fixture(params=RULES.values(), ids=RULES)
    def make(self, request: pytest.FixtureRequest) -> Make:
        return lambda past: RuleForecaster(request.param(past), TARGETS, LEVELS, 1440)

    def test_growing_equals_beginning_with_gaps(self, make: Make) -> None:
        demand = self.noise(vms=5)
        demand[:25, 3:] = np.nan
        grown = self.drive(make, [row[: 3 + 2 * (i >= 25)] for i, row in enumerate(demand)])
        whole = self.drive(make, list(demand))
        for a, b in zip(grown, whole, strict=True):
            np.testing.assert_array_equal(a, b[:, : a.shape[1]])


class _Trained(Boosted):
    """The boosted model as the learner drives it: trained when due."""

    def __init__(self, past: Past) -> None:
        settings = BoostedSettings(min_rows=100, rounds=10, first_training_seconds=3 * 3600)
        super().__init__(TARGETS, TARGETS[:1], LEVELS, 1440, settings, past)

    def observe(self, window: Window, now: int) -> None:
        super().observe(window, now)
        self.train_when_due(window)


class TestBoosted(ForecasterContract):
    spoken = TARGETS[:1]
    quiet_steps = 38
    coverage_tolerance = 0.1

    @pytest.fixture
    def make(self) -> Make:
        return _Trained
