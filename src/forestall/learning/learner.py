"""The learner of one resource: experts, their combination, and calibration, for all VMs together."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from forestall.learning.aggregation import Aggregation
from forestall.learning.analogue import Analogue
from forestall.learning.boosted import Boosted, BoostedSettings
from forestall.learning.calibration import Recalibration
from forestall.learning.expert import Forecaster, RuleForecaster, TrainedForecaster, realised
from forestall.learning.past import Past
from forestall.learning.recurrent.forecaster import Recurrent, RecurrentSettings
from forestall.learning.rules import LastValue, MovingPeak, PointRule, SeasonalNaive, Smoothing
from forestall.learning.statistical import HourlyModel
from forestall.model.forecast import LEVELS, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.window import Float32Array, Window, retained

RESIDUAL_HALF_LIFE_DAYS = 5.0


@dataclass(frozen=True)
class LearnerSettings:
    """What to forecast and with which experts.

    Attributes
    ----------
    targets
        What is forecast.
    boosted_targets
        The targets for which the boosted model is run; it costs most of the time.
    levels
        Quantile levels.
    statistical, statistical_series
        ``ets`` or ``arima`` on the hourly means of so many VMs, the busiest; 0: not at all.
    combined, calibrated
        Whether experts are combined (else the last of them that has something to say is believed), and whether the
        combination is recalibrated: to see what each is worth.
    recurrent
        How the recurrent model is used; None: not at all.
    """

    targets: tuple[Target, ...]
    boosted_targets: tuple[Target, ...] = ()
    levels: tuple[float, ...] = LEVELS
    boosted: BoostedSettings = field(default_factory=BoostedSettings)
    statistical: str = "ets"
    statistical_series: int = 0
    recurrent: RecurrentSettings | None = None
    combined: bool = True
    calibrated: bool = True


class Learner:
    """Learns from each step's samples and forecasts every target, calibrated.

    Parameters
    ----------
    resource
        Resource whose demand is learned.
    step_seconds
        Sampling step.
    settings
        What to forecast.
    beside
        Windows of other resources of the same VMs, filled by their owners.
    """

    def __init__(
        self,
        resource: Resource,
        step_seconds: int,
        settings: LearnerSettings,
        beside: Mapping[Resource, Window] | None = None,
    ) -> None:
        self.settings = settings
        self.past = Past(resource, step_seconds)
        self.window = self.past.window
        half_life = RESIDUAL_HALF_LIFE_DAYS * self.window.day
        targets, levels = settings.targets, settings.levels
        season = SeasonalNaive(self.past.periods)
        rules: list[PointRule] = [LastValue(), Smoothing(), MovingPeak(), season, Analogue()]
        if settings.statistical_series:
            rules.append(HourlyModel(settings.statistical, settings.statistical_series))
        self._rules = [RuleForecaster(rule, targets, levels, half_life) for rule in rules]
        self._rules += [
            RuleForecaster(rule, targets, levels, half_life, relative=True) for rule in (LastValue(), MovingPeak())
        ]
        self._trained: tuple[TrainedForecaster, ...] = (
            Boosted(targets, settings.boosted_targets, levels, half_life, settings.boosted, self.past),
        )
        if settings.recurrent:
            self._trained += (Recurrent(self.past, beside or {}, targets, levels, settings.recurrent),)
        self.experts: tuple[Forecaster, ...] = (*self._rules, *self._trained)
        self._aggregations = [Aggregation(len(self.experts), levels) for _ in targets]
        self._calibrations = [Recalibration(levels, self.window.day) for _ in targets]
        self._issued: list[deque[tuple[Float32Array, Float32Array]]] = [deque(maxlen=t.steps) for t in targets]

    def take_in(self, demand: FloatArray, limit: FloatArray) -> None:
        """Append one step to the past, before :meth:`absorb` or :meth:`step`.

        Parameters
        ----------
        demand, limit
            Arrays (vm,) in the resource's unit; NaN demand is a gap.
        """
        self.past.take_in(demand, limit)

    def absorb(self, now: int) -> None:
        """Learn from the newest step without forecasting, as of history: what the past can teach at little cost.

        Parameters
        ----------
        now
            Start of its interval, seconds.
        """
        for expert in self._trained:
            expert.observe(self.window, now)

    def step(self, now: int) -> FloatArray:
        """Learn from the newest step and forecast: quantiles (target, vm, level) of demand in the resource's unit.

        Parameters
        ----------
        now
            Start of its interval, seconds.
        """
        for expert in self.experts:
            expert.observe(self.window, now)
        for trained in self._trained:
            trained.train_when_due(self.window)
        self._learn()
        experts = np.stack([expert.forecast(self.window, now) for expert in self.experts], axis=1)
        result = np.empty((len(self.settings.targets), self.window.vms, len(self.settings.levels)))
        for i, (aggregation, calibration) in enumerate(zip(self._aggregations, self._calibrations, strict=True)):
            combined = aggregation.combine(experts[i]) if self.settings.combined else _last_to_speak(experts[i])
            # Rounded up, so that a constant demand does not count as above its own forecast.
            rounded = np.nextafter(combined.astype(np.float32), np.float32(np.inf))
            self._issued[i].append((experts[i].astype(np.float32), rounded))
            result[i] = calibration.apply(combined) if self.settings.calibrated else combined
        return result

    def _learn(self) -> None:
        """Score the forecasts that are due: weights and calibration move."""
        limit = np.where(np.isnan(self.window.limit), np.inf, self.window.limit)
        for i, target in enumerate(self.settings.targets):
            self._aggregations[i].grow(self.window.vms)
            self._calibrations[i].grow(self.window.vms)
            if len(self._issued[i]) < target.steps:
                continue
            experts, combined = (issued.astype(np.float64) for issued in self._issued[i][0])
            actual = realised(self.window, target)
            cap = limit[: len(combined), None]
            self._aggregations[i].update(np.minimum(experts, cap), np.minimum(combined, cap), np.minimum(actual, limit))
            self._calibrations[i].update(combined, actual)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order and all that is known of them."""
        self.past.keep(rows)
        for expert in self.experts:
            expert.keep(rows)
        for aggregation, calibration in zip(self._aggregations, self._calibrations, strict=True):
            aggregation.keep(rows)
            calibration.keep(rows)
        self._issued = [
            deque(((retained(experts, rows, 1), retained(mixed, rows, 0)) for experts, mixed in issued), issued.maxlen)
            for issued in self._issued
        ]

    def weights(self) -> FloatArray:
        """Trust in each expert (target, expert, vm), averaged over levels."""
        return np.stack([a.weights().mean(axis=-1) for a in self._aggregations])


def _last_to_speak(quantiles: FloatArray) -> FloatArray:
    """Quantiles (vm, level) of the last expert of (expert, vm, level) that says something about a VM."""
    result: FloatArray = quantiles[0]
    for own in quantiles[1:]:
        result = np.where(np.isnan(own), result, own)
    return result
