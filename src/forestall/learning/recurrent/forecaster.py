"""The recurrent model at work: one state for each VM, one cell evaluation a step, fitted to each VM as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forestall.learning.past import Past
from forestall.learning.recurrent.adapter import ADAPTER, Adapter
from forestall.learning.recurrent.engine import Engine
from forestall.learning.recurrent.inputs import INPUTS, model_inputs
from forestall.learning.recurrent.model import RecurrentModel
from forestall.learning.recurrent.probation import Probation
from forestall.learning.recurrent.succession import Trainer, succeed
from forestall.learning.recurrent.tape import REMEMBERED_STEPS, Recorder
from forestall.learning.schedule import Schedule
from forestall.model.errors import BadInput
from forestall.model.forecast import Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.window import Window, retained


@dataclass(frozen=True)
class RecurrentSettings:
    """How the recurrent model is used.

    Attributes
    ----------
    models
        The first model of a resource; without one, nothing is forecast until one is trained.
    trainer
        Trains models; None: the first ones stay.
    first_training_seconds, retrain_seconds
        Length of the past at the first training, and the longest time between trainings; until then the past must grow
        by half.
    probation_seconds
        How long a model that took over runs beside the one before it, which comes back if the new one loses.
    calendar
        Whether instants are real dates.
    """

    models: Mapping[Resource, RecurrentModel] = field(default_factory=dict)
    trainer: Trainer | None = None
    first_training_seconds: int = 86_400
    retrain_seconds: int = 10 * 86_400
    probation_seconds: int = 86_400
    calendar: bool = True
    seed: int = 0


class Recurrent:
    """A forecaster whose model can be exchanged at any time; NaN while there is none.

    Parameters
    ----------
    past
        What is known of the resource; filled by its owner.
    beside
        Windows of other resources of the same VMs; filled by their owners, before this one is asked.
    targets, levels
        What is wanted.
    settings
        With which model, and how it is renewed.
    without
        What is left out: ``adapter``, or inputs; see :func:`~forestall.learning.recurrent.inputs.model_inputs`.
    """

    name = "recurrent"

    def __init__(
        self,
        past: Past,
        beside: Mapping[Resource, Window],
        targets: tuple[Target, ...],
        levels: tuple[float, ...],
        settings: RecurrentSettings,
        without: frozenset[str] = frozenset(),
    ) -> None:
        self._past, self._beside = past, beside
        self._targets, self._levels, self._settings = targets, levels, settings
        self._without = without
        self._engine: Engine | None = None
        self._adapter = Adapter((), levels)
        self._probation: Probation | None = None
        # The last inputs, for a model that comes later.
        self._remembered: NDArray[np.float16] = np.zeros((REMEMBERED_STEPS, 0, INPUTS), np.float16)
        self._count = 0
        self._recorder = Recorder(past.resource, past.window) if settings.trainer else None
        # Grown by half.
        self._schedule = Schedule(settings.first_training_seconds, settings.retrain_seconds, growth=0.5)
        if first := settings.models.get(past.resource):
            self.take_up(first)

    @property
    def model(self) -> RecurrentModel | None:
        """The model in use."""
        return self._engine.model if self._engine else None

    def take_up(self, model: RecurrentModel) -> None:
        """Forecast with ``model`` from now on; its state is what it would be had it seen the last steps.

        The model before runs beside it for a while, and comes back if the new one loses.

        Raises
        ------
        BadInput
            It cannot be run, or has other levels; the model before stays.
        """
        if model.about.levels != self._levels:
            raise BadInput(f"forecasts the levels {model.about.levels}, not {self._levels}")
        steps = min(self._count, REMEMBERED_STEPS)
        order = (self._count - steps + np.arange(steps)) % REMEMBERED_STEPS
        remembered = self._remembered[order].astype(np.float32)
        engine = Engine(model, self._targets, remembered[:-1])
        if steps:
            engine.step(remembered[-1])
            if self._engine:
                lasts = round(self._settings.probation_seconds / self._past.window.step_seconds)
                self._probation = Probation(self._engine, engine, lasts)
        self._use(engine)

    def _use(self, engine: Engine) -> None:
        """What was fitted to the model before says nothing of this one."""
        self._engine, self._adapter = engine, Adapter(engine.targets, self._levels)

    def observe(self, window: Window, now: int) -> None:
        """See the newest step, and forecast."""
        calendar = self._settings.calendar
        seen = model_inputs(self._past, self._beside, now, calendar=calendar, without=self._without)
        inputs = seen.astype(np.float16)
        new = window.vms - self._remembered.shape[1]
        if new > 0:
            self._remembered = np.pad(self._remembered, ((0, 0), (0, new), (0, 0)))
        self._remembered[self._count % REMEMBERED_STEPS] = inputs
        self._count += 1
        if self._recorder:
            self._recorder.record(inputs, now)
        if self._engine:
            self._engine.step(inputs.astype(np.float32))
            self._adapter.learn(window)
            if self._engine.quantiles is not None:
                self._adapter.issue(self._engine.quantiles, window.last.copy(), window.scale())
        if self._probation:
            self._probation.before.step(inputs.astype(np.float32))
            self._judge(window)

    def _judge(self, window: Window) -> None:
        """End the probation when it is over: the new model stays, or the one before it comes back."""
        probation = self._probation
        stays = probation.step(window) if probation else None
        if probation and stays is not None:
            self._probation = None
            if not stays:
                self._use(probation.before)

    def forecast(self, window: Window, now: int) -> FloatArray:
        """Quantiles (target, vm, level); NaN for targets that the model does not know and VMs without a sample."""
        result = np.full((len(self._targets), window.vms, len(self._levels)), np.nan)
        if self._engine is None or self._engine.quantiles is None:
            return result
        unit, last = window.scale()[:, None], window.last[:, None]
        said = self._engine.quantiles
        fitted = said if ADAPTER in self._without else self._adapter.apply(said)
        for target, own in zip(self._engine.targets, fitted, strict=True):
            result[self._targets.index(target)] = np.maximum(last + unit * own, 0.0)
        return result

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``; the model, and what is to be learned from the others, stays."""
        self._remembered = retained(self._remembered, rows, 1)
        for part in (self._engine, self._adapter, self._probation, self._recorder):
            if part:
                part.keep(rows)

    def train_when_due(self, window: Window, drifts: int = 0) -> bool:
        """Train when the past has grown by half since the last time, in ten days, or when losses have risen for good.

        What is trained takes over only if it is better on the newest part of the past, which it has not seen; whether
        it did is returned.
        """
        settings = self._settings
        if not settings.trainer or not self._recorder or not self._schedule.due(window, drifts):
            return False
        self._schedule.trained(window, drifts)
        tape = self._recorder.tape()
        model, _ = succeed(tape, self._targets, settings.trainer, self.model, settings.seed)
        if model is None:
            return False
        self.take_up(model)
        return True
