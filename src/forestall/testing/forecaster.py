"""Contract of a forecaster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from forestall.learning.expert import Forecaster
from forestall.learning.past import Past
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray

Make = Callable[[Past], Forecaster]

STEP_SECONDS = 300
LIMIT = 8.0
TARGETS = (Target(Statistic.MEAN, 1), Target(Statistic.MEAN, 3), Target(Statistic.PEAK, 12))
"""Targets, and with ``LEVELS`` the levels, that a forecaster under test is made for."""


class ForecasterContract:
    """Subclass, and give a fixture ``make``: makes a fresh forecaster on a past, for :data:`TARGETS` and ``LEVELS``."""

    spoken: tuple[Target, ...] = TARGETS
    """The targets that it forecasts; it is silent (NaN) about the others."""
    quiet_steps = 13
    """Steps after which it must have something to say about every VM with a sample."""
    steps = 60
    """Length of the series it is tried on."""
    turn_tolerance = 0.1
    """How much it may matter (relative) that what is renewed by turns is renewed at others."""
    coverage_tolerance = 0.08
    """How far the coverage of its 90 % quantile may be off on independent noise."""

    @pytest.fixture
    def make(self) -> Make:
        """Makes forecasters."""
        raise NotImplementedError

    def drive(
        self, make: Make, rows: Sequence[FloatArray], keep: Mapping[int, IntArray] | None = None
    ) -> list[FloatArray]:
        """Forecasts (target, vm, level) after each row (vm,) of demand; ``keep``: the VMs kept before a row."""
        past = Past(Resource.CPU, STEP_SECONDS)
        forecaster, window, made = make(past), past.window, []
        for i, row in enumerate(rows):
            if keep and i in keep:
                past.keep(keep[i])
                forecaster.keep(keep[i])
            past.take_in(row, np.fmax(row, LIMIT), i * STEP_SECONDS)
            forecaster.observe(window, i * STEP_SECONDS)
            made.append(forecaster.forecast(window, i * STEP_SECONDS))
        return made

    def noise(self, vms: int = 4, steps: int = 0) -> FloatArray:
        """Independent demand (time, vm)."""
        return np.random.default_rng(17).gamma(2.0, 0.5, (steps or self.steps, vms))

    def assert_lawful(self, made: FloatArray, vms: int) -> None:
        """Check shape, order and values of one step's forecasts."""
        assert made.shape == (len(TARGETS), vms, len(LEVELS))
        known = ~np.isnan(made)
        assert (known.all(axis=-1) == known.any(axis=-1)).all(), "all levels are known, or none"
        assert np.isfinite(made[known]).all()
        assert (made[known] >= 0).all()
        assert (np.diff(made, axis=-1)[known[..., 1:]] >= 0).all()

    def assert_speaks(self, made: FloatArray, vms: Sequence[int] | slice = slice(None)) -> None:
        """Check that nothing is left open about some VMs."""
        for target in self.spoken:
            assert np.isfinite(made[TARGETS.index(target), vms]).all(), target

    def test_it_has_a_name(self, make: Make) -> None:
        assert make(Past(Resource.CPU, STEP_SECONDS)).name.isidentifier()

    def test_forecasts_are_lawful_and_soon_there(self, make: Make) -> None:
        made = self.drive(make, list(self.noise()))
        for forecast in made:
            self.assert_lawful(forecast, 4)
        for forecast in made[self.quiet_steps :]:
            self.assert_speaks(forecast)

    @pytest.mark.parametrize("kind", ["zeros", "constant", "gaps", "outlier", "one sample", "huge", "tiny"])
    def test_odd_series_are_borne(self, make: Make, kind: str) -> None:
        demand = self.noise()
        odd = demand[:, 0]
        if kind in ("zeros", "constant"):
            odd[:] = 0.0 if kind == "zeros" else 0.7
        elif kind == "gaps":
            odd[np.random.default_rng(1).random(len(odd)) < 0.6] = np.nan
            odd[20:40] = np.nan
        elif kind == "outlier":
            odd[len(odd) // 2] = 1e6
        elif kind == "one sample":
            odd[5:] = odd[:4] = np.nan
        else:
            odd *= 1e13 if kind == "huge" else 1e-9
        made = self.drive(make, list(demand))
        for forecast in made:
            self.assert_lawful(forecast, 4)
        self.assert_speaks(made[-1])
        if kind == "zeros":
            spoken = [TARGETS.index(t) for t in self.spoken]
            assert made[-1][spoken, 0, LEVELS.index(0.5)].max() < 0.2

    def test_nothing_is_said_about_a_vm_without_a_sample(self, make: Make) -> None:
        demand = self.noise()
        demand[:, 2] = np.nan
        made = self.drive(make, list(demand))
        assert np.isnan(made[-1][:, 2]).all()
        self.assert_speaks(made[-1], [0, 1, 3])

    def test_all_gaps(self, make: Make) -> None:
        for forecast in self.drive(make, [np.full(2, np.nan)] * 20):
            assert np.isnan(forecast).all()

    def test_the_same_past_gives_the_same_forecast(self, make: Make) -> None:
        demand = self.noise()
        whole = self.drive(make, list(demand))
        other_future = demand.copy()
        other_future[-8:] *= 3.0
        again = self.drive(make, list(other_future))
        for made, expected in zip(again[:-8], whole[:-8], strict=True):
            np.testing.assert_array_equal(made, expected)
        assert not np.array_equal(again[-1], whole[-1], equal_nan=True), "it looks at what is new"

    def test_the_roster_may_grow(self, make: Make) -> None:
        demand = self.noise(vms=7)
        late = len(demand) - self.quiet_steps // 2
        rows = [row[: 4 + (i >= 10) + 2 * (i >= late)] for i, row in enumerate(demand)]
        made = self.drive(make, rows)
        for forecast, row in zip(made, rows, strict=True):
            self.assert_lawful(forecast, len(row))
        self.assert_speaks(made[-1])

    def test_vms_may_be_forgotten(self, make: Make) -> None:
        demand, kept = self.noise(vms=7) * 4.0 ** -np.arange(7), np.array([1, 3, 6])
        demand[:, [0, 2, 4, 5]] = np.nan  # whatever they taught the fleet would stay, or go
        at = len(demand) - 8
        rows = [row[: 6 + (i >= at - 5)] for i, row in enumerate(demand)]
        whole = self.drive(make, rows)
        some = self.drive(make, [*rows[:at], *demand[at:, kept]], {at: kept})
        for forecast, expected in zip(some[at:], whole[at:], strict=True):
            self.assert_lawful(forecast, len(kept))
            self.assert_speaks(forecast)
            # In units of what each VM needs at most: low quantiles of small VMs are next to nothing.
            unit = np.fmax.reduce(expected[:, kept], axis=-1, keepdims=True)
            np.testing.assert_allclose(forecast / unit, expected[:, kept] / unit, rtol=0, atol=self.turn_tolerance)

    def test_its_errors_are_what_it_states(self, make: Make) -> None:
        demand = self.noise(vms=6, steps=max(2 * self.steps, 300))
        made = self.drive(make, list(demand))
        for target in self.spoken:
            if target.statistic is Statistic.MEAN:
                quantile = np.stack([f[TARGETS.index(target), :, LEVELS.index(0.9)] for f in made])
                met = demand[target.steps :] <= quantile[: -target.steps]
                assert met[-len(demand) // 2 :].mean() == pytest.approx(0.9, abs=self.coverage_tolerance)
