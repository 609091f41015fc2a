"""What the recurrent model saw and what came of it: the raw material of training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forestall.learning.past import Past, floor_of, plausible
from forestall.learning.recurrent.inputs import INPUTS, model_inputs
from forestall.model.forecast import Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, Float32Array, IntArray, Trace
from forestall.profiling.window import Window

MOST_VMS, MOST_STEPS = 256, 10_080
"""What is kept at most: five weeks at 5 minutes, and less where steps are shorter; 0.4 GB."""
REMEMBERED_STEPS = 48
"""So many steps fill a state that began with nothing."""


@dataclass(frozen=True)
class Tape:
    """A stretch of the past of one resource, oldest step first.

    Attributes
    ----------
    inputs
        Array (time, vm, input), float16.
    actual, last, scale
        Arrays (time, vm) in the resource's unit: the newest sample capped at its limit (NaN for none), the last one
        known, and the VM's scale then.
    step_seconds, until
        Length of a step, and the start of the newest one.
    """

    resource: Resource
    inputs: NDArray[np.float16]
    actual: Float32Array
    last: Float32Array
    scale: Float32Array
    step_seconds: int
    until: int

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.inputs)

    @property
    def vms(self) -> int:
        """Number of VMs."""
        return int(self.inputs.shape[1])

    def outcomes(self, targets: tuple[Target, ...]) -> Float32Array:
        """What the forecasts of each step turned out to be (time, vm, target).

        In units of the scale and relative to the last sample, as the model forecasts them; NaN where nothing was seen,
        or the tape ends before.
        """
        result = np.full((*self.actual.shape, len(targets)), np.nan, np.float32)
        for k, target in enumerate(targets):
            came = _future(self.actual, target)
            result[: len(came), :, k] = (came - self.last[: len(came)]) / self.scale[: len(came)]
        result[~np.isfinite(result)] = np.nan
        return result

    def digest(self) -> str:
        """SHA-256 of all that is on it."""
        whole = hashlib.sha256(repr((self.resource, self.step_seconds, self.until, self.inputs.shape)).encode())
        for part in (self.inputs, self.actual, self.scale):
            whole.update(np.ascontiguousarray(part).data)
        return whole.hexdigest()

    def part(self, first: int, end: int) -> Tape:
        """The steps from ``first`` to before ``end``."""
        rows = slice(first, end)
        until = self.until - (self.steps - end) * self.step_seconds
        cut = self.inputs[rows], self.actual[rows], self.last[rows], self.scale[rows]
        return Tape(self.resource, *cut, self.step_seconds, until)


def joined(tapes: Sequence[Tape]) -> Tape:
    """Tapes of different VMs side by side, with their ends together; before its beginning nothing is known of a VM."""
    first, steps = tapes[0], max(tape.steps for tape in tapes)

    def side_by_side(name: str, fill: float) -> NDArray[Any]:
        parts = [np.asarray(getattr(tape, name)) for tape in tapes]
        before = [((steps - len(part), 0), *([(0, 0)] * (part.ndim - 1))) for part in parts]
        return np.concatenate(
            [np.pad(part, pad, constant_values=fill) for part, pad in zip(parts, before, strict=True)], axis=1
        )

    actual, last, scale = (side_by_side(name, np.nan) for name in ("actual", "last", "scale"))
    inputs = side_by_side("inputs", 0.0)
    return Tape(first.resource, inputs, actual, last, scale, first.step_seconds, first.until)


def _future(actual: Float32Array, target: Target) -> Float32Array:
    """What follows each step, as the statistic wants it; shorter than ``actual`` by the target's steps."""
    count = max(len(actual) - target.steps, 0)
    if target.statistic is Statistic.MEAN:
        return actual[target.steps :]
    came = actual[1 : count + 1]
    for ahead in range(2, target.steps + 1):
        came = np.fmax(came, actual[ahead : ahead + count])
    return came


class Recorder:
    """Writes a tape as time goes by, of the first VMs of the roster and the last weeks.

    Parameters
    ----------
    resource, window
        What is recorded; the window is filled by its owner.
    most_vms, most_steps
        What is kept at most: beyond it the later VMs and the older steps are left out.
    """

    def __init__(
        self, resource: Resource, window: Window, most_vms: int = MOST_VMS, most_steps: int = MOST_STEPS
    ) -> None:
        self._resource, self._window = resource, window
        self._most_vms, self._most_steps = most_vms, most_steps
        self._inputs: list[NDArray[np.float16]] = []
        self._values: list[Float32Array] = []
        self._until = 0

    @property
    def steps(self) -> int:
        """Steps that are on the tape."""
        return len(self._inputs)

    def record(self, inputs: NDArray[np.float16], now: int) -> None:
        """Add the newest step: ``inputs`` (vm, input) as the model saw them."""
        vms, window = min(len(inputs), self._most_vms), self._window
        limit = np.where(np.isnan(window.limit), np.inf, window.limit)
        columns = np.minimum(window.at_lag(0), limit), window.last, window.scale()
        self._inputs.append(inputs[:vms])
        self._values.append(np.stack(columns)[:, :vms].astype(np.float32))
        self._until = now
        if len(self._inputs) > self._most_steps:
            del self._inputs[0], self._values[0]

    def tape(self) -> Tape:
        """All that is kept."""
        vms = max((len(inputs) for inputs in self._inputs), default=0)
        inputs = np.zeros((self.steps, vms, INPUTS), np.float16)
        values = np.full((3, self.steps, vms), np.nan, np.float32)
        for i, (row, columns) in enumerate(zip(self._inputs, self._values, strict=True)):
            inputs[i, : len(row)] = row
            values[:, i, : len(row)] = columns
        actual, last, scale = values
        return Tape(self._resource, inputs, actual, last, scale, self._window.step_seconds, self._until)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self._inputs = [inputs[rows[rows < len(inputs)]] for inputs in self._inputs]
        self._values = [values[:, rows[rows < values.shape[1]]] for values in self._values]


def tape_of(trace: Trace, resource: Resource, tags: BoolArray | None = None) -> Tape:
    """What the model would have seen of a trace; of its last weeks, and the first VMs.

    ``tags`` (vm, application) says which applications its VMs run; see :attr:`Past.tags`.
    """
    past = Past(resource, trace.grid.step_seconds)
    if tags is not None:
        past.tags = tags
    recorder = Recorder(resource, past.window)
    beside = {r: Window(trace.grid.step_seconds, floor_of(r)) for r in trace.resources if r != resource}
    others = {r: plausible(trace.demand[r], trace.known_limit(r)) for r in beside}
    limit = trace.known_limit(resource)
    known = np.searchsorted(trace.first_seen(), np.arange(trace.grid.steps), side="right")
    for i, n in enumerate(known):
        for r, window in beside.items():
            window.push(others[r][i, :n], np.full(n, np.inf))
        if trace.active_users is not None:
            past.activity.observe(trace.active_users[i, :n])
        past.take_in(trace.demand[resource][i, :n], limit[i, :n], trace.grid.at(i))
        inputs = model_inputs(past, beside, trace.grid.at(i), calendar=trace.calendar)
        recorder.record(inputs.astype(np.float16), trace.grid.at(i))
    return recorder.tape()
