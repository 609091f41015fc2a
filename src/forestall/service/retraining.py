"""Training beside the loop: when it is due, a child process trains on what the store knows, and what won is taken up.

The loop never waits: the history is written out in a thread, a part at a time, the training is another process with a
budget, and each cycle only looks whether it has ended. What the child finds better it puts into the registry; a model
that then loses against the one before it in the loop is taken back there too. Whatever dies when, the registry holds
whole models and one of them in use, and the next training is due as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from forestall.learning.recurrent.model import RecurrentModel
from forestall.learning.schedule import AFTER_DRIFT_SECONDS
from forestall.model.errors import StoreError
from forestall.model.resources import Resource
from forestall.ports.clock import Clock

Note = Callable[[str], None]


class Course(Protocol):
    """One training at a time, elsewhere."""

    def begin(self) -> None:
        """Start one. Returns at once."""
        ...

    def ended(self) -> str | None:
        """None while one runs; then how it ended, in words, empty if well, once."""
        ...

    def abandon(self) -> None:
        """End the one that runs, if any."""
        ...


class Models(Protocol):
    """The models in use. Errors: :class:`~forestall.model.errors.StoreError`."""

    def in_use(self, resource: Resource, note: Note) -> RecurrentModel | None:
        """The model that took over; None while none did."""
        ...

    def roll_back(self, resource: Resource, reason: str, at: int) -> object:
        """Use the one before it."""
        ...


class Memory(Protocol):
    """What is remembered of trainings between runs."""

    def read(self) -> Mapping[str, float]:
        """Instants by name; empty at first."""
        ...

    def write(self, instants: Mapping[str, float]) -> None:
        """Remember, durably. A :class:`~forestall.model.errors.StoreError` where that cannot be."""
        ...


class Pupil(Protocol):
    """The loop, as far as it learns."""

    def drifts(self) -> int:
        """How often forecasts have become worse for good since it started."""
        ...

    def models(self) -> Mapping[Resource, RecurrentModel]:
        """The model that each resource is forecast with."""
        ...

    def take_up(self, resource: Resource, model: RecurrentModel) -> None:
        """Forecast with another model; a :class:`~forestall.model.errors.BadInput` if it cannot be run."""
        ...


@dataclass(frozen=True)
class RetrainingSettings:
    """When models are trained.

    Attributes
    ----------
    first_seconds
        After so long with samples for the first time.
    longest_seconds
        At least so often; before, whenever the past has grown by half.
    """

    first_seconds: float = 86_400.0
    longest_seconds: float = 10 * 86_400.0


class Retraining:
    """Trains when it is due.

    Parameters
    ----------
    pupil
        Who learns.
    course
        Who trains.
    models
        Where what was trained is found.
    memory
        What was done before.
    clock, settings, note
        Time, when, and who is told.
    """

    def __init__(
        self,
        pupil: Pupil,
        course: Course,
        models: Models,
        memory: Memory,
        clock: Clock,
        settings: RetrainingSettings,
        note: Note,
    ) -> None:
        self._pupil, self._course, self._models = pupil, course, models
        self._memory, self._clock, self._settings, self._note = memory, clock, settings, note
        self._instants = dict(memory.read())
        self._drifts = 0
        self._running = False
        self._trained_before: float | None = None
        self._adopted: dict[Resource, str] = {}

    def look(self) -> None:
        """Take up what has ended, take back what has lost, begin what is due; quick, and never raises."""
        try:
            if self._running:
                self._finish()
            else:
                self._take_back()
                if reason := self._due():
                    self._begin(reason)
        except Exception as error:  # whatever is wrong with a model must not end the loop
            self._note(f"training: {error or type(error).__name__}")

    def stop(self) -> None:
        """End a training that runs; it is due again at the next start."""
        if self._running:
            self._remember(trained=self._trained_before)
        self._course.abandon()

    def _due(self) -> str:
        """Why a training should begin now; empty if none should."""
        now = self._clock.now()
        if "began" not in self._instants:
            self._remember(began=now)
        began, last = self._instants["began"], self._instants.get("trained")
        if last is None:
            return "the first" if now - began >= self._settings.first_seconds else ""
        if self._pupil.drifts() > self._drifts and now - last >= AFTER_DRIFT_SECONDS:
            return "forecasts have become worse"
        wait = min(max((last - began) / 2, self._settings.first_seconds), self._settings.longest_seconds)
        return "it is time again" if now - last >= wait else ""

    def _begin(self, reason: str) -> None:
        self._trained_before = self._instants.get("trained")
        self._remember(trained=self._clock.now())
        self._drifts = self._pupil.drifts()
        self._running = True
        self._course.begin()
        self._note(f"training begins: {reason}")

    def _finish(self) -> None:
        ended = self._course.ended()
        if ended is None:
            return
        self._running = False
        # One that failed may have found better models of some resources before.
        taken = [r.value for r, current in self._pupil.models().items() if self._takes_up(r, current)]
        found = f"new models of {', '.join(taken)} are in use" if taken else "none was better than the one in use"
        self._note(f"training ended: {'; '.join(filter(None, (ended, found if taken or not ended else '')))}")

    def _takes_up(self, resource: Resource, current: RecurrentModel) -> bool:
        """Take up what the registry has in use, if it is another model; whether it was."""
        try:
            model = self._models.in_use(resource, self._note)
            if model is None or identity(model) == identity(current):
                return False
            self._pupil.take_up(resource, model)
        except Exception as error:
            self._note(f"training: the new model of {resource.value} is not used: {error or type(error).__name__}")
            return False
        self._adopted[resource] = identity(model)
        return True

    def _take_back(self) -> None:
        """What the loop went back from is in use no more, also after a restart."""
        in_use = self._pupil.models()
        for resource, adopted in list(self._adopted.items()):
            if resource not in in_use or identity(in_use[resource]) == adopted:
                continue
            newest = self._models.in_use(resource, self._note)
            if newest is not None and identity(newest) == adopted:
                self._models.roll_back(resource, "lost against the one before it", int(self._clock.now()))
            del self._adopted[resource]
            self._note(f"the new model of {resource.value} lost against the one before it, which is in use again")

    def _remember(self, **instants: float | None) -> None:
        """Remember instants; None: there is none."""
        self._instants = {name: at for name, at in (self._instants | instants).items() if at is not None}
        try:
            self._memory.write(self._instants)
        except StoreError as error:
            self._note(f"training: {error}")


def identity(model: RecurrentModel) -> str:
    """Tells models apart."""
    about = model.about
    return f"{about.data_hash}/{about.kind}/{about.seed}/{about.until}"
