"""The learner of one resource: experts, their combination, and calibration, for all VMs together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from forestall.learning.aggregation import Aggregation
from forestall.learning.analogue import Analogue
from forestall.learning.boosted import Boosted, BoostedSettings
from forestall.learning.calibration import Recalibration
from forestall.learning.drift import Drift
from forestall.learning.expert import Forecaster, RuleForecaster, TrainedForecaster, realised
from forestall.learning.past import Past
from forestall.learning.recurrent.forecaster import Recurrent, RecurrentSettings
from forestall.learning.recurrent.inputs import SEGMENTS
from forestall.learning.reliability import Reliability
from forestall.learning.rules import LastValue, MovingPeak, PointRule, SeasonalNaive, Segment, Smoothing
from forestall.learning.statistical import HourlyModel
from forestall.learning.usefulness import Usefulness
from forestall.learning.week import Week
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, Float32Array, FloatArray, IntArray
from forestall.profiling.window import Window, retained

RESIDUAL_HALF_LIFE_DAYS = 5.0
Result = TypeVar("Result")
COMBINATION, CALIBRATION = "combination", "calibration"


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
    recurrent
        How the recurrent model is used; None: not at all.
    without
        Parts that are left out, to see what each is worth: ``combination`` (then the last expert that has something to
        say is believed), ``calibration``, ``segments``, ``correlation``.
    """

    targets: tuple[Target, ...]
    boosted_targets: tuple[Target, ...] = ()
    levels: tuple[float, ...] = LEVELS
    boosted: BoostedSettings = field(default_factory=BoostedSettings)
    statistical: str = "ets"
    statistical_series: int = 0
    recurrent: RecurrentSettings | None = None
    without: frozenset[str] = frozenset()


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

    Attributes
    ----------
    timer
        Tells seconds; with it, ``seconds`` is how long each expert took in ``timed_steps`` steps, by name.
    recurrent
        The recurrent expert, if there is one.
    reliability
        How reliable the forecasts of each target were, as they were stated, in the order of the targets.
    unusual
        VMs (vm,) whose forecasts of the first target were several times as wrong as usual in the last hour.
    changed
        VMs (vm,) that were found at the newest step to have changed their habits, by forecasts of the first target.
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
        if SEGMENTS not in settings.without:
            rules.append(Segment(self.past.segments))
        if settings.statistical_series:
            rules.append(HourlyModel(settings.statistical, settings.statistical_series))
        trust = self.past.trust
        self._rules = [RuleForecaster(rule, targets, levels, half_life, trust) for rule in rules]
        self._rules += [
            RuleForecaster(rule, targets, levels, half_life, trust, relative=True)
            for rule in (LastValue(), MovingPeak())
        ]
        self._boosted = Boosted(targets, settings.boosted_targets, levels, half_life, settings.boosted, self.past)
        self._usefulness = Usefulness()
        self._trained: tuple[TrainedForecaster, ...] = (self._boosted,)
        self.recurrent: Recurrent | None = None
        if settings.recurrent:
            self.recurrent = Recurrent(self.past, beside or {}, targets, levels, settings.recurrent, settings.without)
            self._trained += (self.recurrent,)
        far = any(_overlap(target) >= self.window.day // 2 for target in targets)
        week = [Week(self.past.week, targets, levels)] if far else []
        self.experts: tuple[Forecaster, ...] = (*self._rules, *week, *self._trained)
        self.timer: Callable[[], float] | None = None
        self.seconds: dict[str, float] = {}
        self.timed_steps = 0
        self.changed: BoolArray = np.zeros(0, dtype=bool)
        self.unusual: BoolArray = np.zeros(0, dtype=bool)
        self.drift = Drift(self.window.hour)
        overlap = [_overlap(t) for t in targets]
        self._aggregations = [
            Aggregation(len(self.experts), levels, self.window.hour, trust, max(1, steps // self.window.hour))
            for steps in overlap
        ]
        self._calibrations = [Recalibration(levels, self.window.day, steps, trust) for steps in overlap]
        self._issued: list[deque[tuple[Float32Array, Float32Array]]] = [deque(maxlen=t.steps) for t in targets]
        self._stated: list[deque[Float32Array]] = [deque(maxlen=t.steps) for t in targets]
        self.reliability = [Reliability(levels, self.window.day) for _ in targets]

    def take_in(self, demand: FloatArray, limit: FloatArray, now: int) -> None:
        """Append one step to the past, before :meth:`absorb` or :meth:`step`; see :meth:`Past.take_in`."""
        self.past.take_in(demand, limit, now)

    def absorb(self, now: int) -> None:
        """Learn from the newest step without forecasting, as of history: what the past can teach at little cost.

        Parameters
        ----------
        now
            Start of its interval, seconds.
        """
        for expert in self._trained:
            expert.observe(self.window, now)
        for stated in self._stated:  # of no VM, so that what is stated still meets the step that it was stated for
            stated.append(np.zeros((0, len(self.settings.levels)), np.float32))

    def step(self, now: int) -> FloatArray:
        """Learn from the newest step and forecast: quantiles (target, vm, level) of demand in the resource's unit.

        They may go beyond what can come (:meth:`most`), as the share of a large sample does. To those who state them
        that is an error; those who decide on them want to know how soon the limit is needed, which a mixture of
        experts that end there would hide (docs/evaluation.md, "Forecasts beside other forecasters").

        Parameters
        ----------
        now
            Start of its interval, seconds.
        """
        self._rest()
        self.timed_steps += self.timer is not None
        for expert in self.experts:
            self._timed(expert, lambda expert: expert.observe(self.window, now))
        for trained in self._trained:
            trained.train_when_due(self.window, self.drift.count)
        self._learn()
        experts = np.stack([self._timed(e, lambda e: e.forecast(self.window, now)) for e in self.experts], axis=1)
        without, most = self.settings.without, self.most()[:, None]
        result = np.empty((len(self.settings.targets), self.window.vms, len(self.settings.levels)))
        for i, (aggregation, calibration) in enumerate(zip(self._aggregations, self._calibrations, strict=True)):
            combined = _last_to_speak(experts[i]) if COMBINATION in without else aggregation.combine(experts[i])
            self._issued[i].append((experts[i].astype(np.float32), _rounded_up(combined)))
            result[i] = combined if CALIBRATION in without else calibration.apply(combined)
            self._stated[i].append(_rounded_up(np.minimum(result[i], most)))
        return result

    def most(self) -> FloatArray:
        """The most that can come (vm,): the limit, or as much as it was in the last week where that is more."""
        limit = np.where(np.isnan(self.window.limit), np.inf, self.window.limit)
        return np.fmax(limit, self.window.peak(self.window.blocks))

    def _timed(self, expert: Forecaster, do: Callable[[Forecaster], Result]) -> Result:
        """Let an expert do something, and count what it costs."""
        if self.timer is None:
            return do(expert)
        began = self.timer()
        result = do(expert)
        self.seconds[expert.name] = self.seconds.get(expert.name, 0.0) + self.timer() - began
        return result

    def _rest(self) -> None:
        """Once an hour: the boosted model says nothing for a while about VMs that it has not helped for long."""
        if self.window.count % self.window.hour == 0:
            place = self.experts.index(self._boosted)
            spoken = zip(self.settings.targets, self._aggregations, strict=True)
            trust = [a.weights()[place].mean(axis=-1) for t, a in spoken if t in self.settings.boosted_targets]
            if trust:
                self._boosted.rest(self._usefulness.step(np.max(trust, axis=0)))

    def _learn(self) -> None:
        """Score the forecasts that are due: weights, calibration and reliability move."""
        limit = np.where(np.isnan(self.window.limit), np.inf, self.window.limit)
        changed = np.zeros(0, dtype=bool)
        for i, target in enumerate(self.settings.targets):
            self._aggregations[i].grow(self.window.vms)
            self._calibrations[i].grow(self.window.vms)
            if len(self._issued[i]) < target.steps:
                continue
            experts, combined = (issued.astype(np.float64) for issued in self._issued[i][0])
            actual = realised(self.window, target)
            cap = limit[: len(combined), None]
            losses = self._aggregations[i].update(
                np.minimum(experts, cap), np.minimum(combined, cap), np.minimum(actual, limit)
            )
            if i == 0:
                self.drift.update(losses)
                changed, self.unusual = self._aggregations[0].notice_change(), self._aggregations[0].unusual()
            self._calibrations[i].update(combined, actual)
            stated = self._stated[i][0]
            self.reliability[i].update(stated, actual[: len(stated)])
        self.changed = np.pad(changed, (0, self.window.vms - len(changed)))
        if self.changed.any():
            near = [i for i, target in enumerate(self.settings.targets) if target.steps <= self.window.hour]
            for i in near:  # of forecasts of a day the last hour says nothing
                self._aggregations[i].begin_anew(self.changed)
                self._calibrations[i].forget(self.changed)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order and all that is known of them."""
        self._usefulness.keep(rows)
        for expert in self.experts:
            expert.keep(rows)
        for aggregation, calibration in zip(self._aggregations, self._calibrations, strict=True):
            aggregation.keep(rows)
            calibration.keep(rows)
        self._issued = [
            deque(((retained(experts, rows, 1), retained(mixed, rows, 0)) for experts, mixed in issued), issued.maxlen)
            for issued in self._issued
        ]
        self._stated = [deque((retained(part, rows, 0) for part in stated), stated.maxlen) for stated in self._stated]
        self.past.keep(rows)

    def spoken(self) -> FloatArray:
        """What each expert said last: quantiles (target, expert, vm, level), NaN where it said nothing."""
        return np.stack([issued[-1][0] for issued in self._issued]).astype(np.float64)

    def weights(self) -> FloatArray:
        """Trust in each expert (target, expert, vm), averaged over levels."""
        return np.stack([a.weights().mean(axis=-1) for a in self._aggregations])


def _overlap(target: Target) -> int:
    """How many forecasts of the mean in a row meet much the same: so many outcomes say as much as one."""
    return target.steps if target.statistic is Statistic.MEAN else 1


def _rounded_up(quantiles: FloatArray) -> Float32Array:
    """In half the memory, and rounded up, so that a constant demand does not count as above its own forecast."""
    result: Float32Array = np.nextafter(quantiles.astype(np.float32), np.float32(np.inf))
    return result


def _last_to_speak(quantiles: FloatArray) -> FloatArray:
    """Quantiles (vm, level) of the last expert of (expert, vm, level) that says something about a VM."""
    result: FloatArray = quantiles[0]
    for own in quantiles[1:]:
        result = np.where(np.isnan(own), result, own)
    return result
