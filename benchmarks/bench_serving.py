"""What one step of the recurrent expert costs, part by part: its inputs, the network's cell, and fitting it to each VM.

Run with ``make bench``, or alone, on one core::

    taskset -c 0 pytest benchmarks/bench_serving.py --benchmark-enable

One resource with another beside it, the targets of the demand loop, the models that come with Forestall. Inputs that
are renewed once a day or an hour are renewed in the steps that fall on it, as at work; medians leave them out, means
do not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forestall.bootstrap.models import models_in_use
from forestall.demand.settings import DemandSettings
from forestall.learning.past import Past, floor_of
from forestall.learning.recurrent.adapter import Adapter
from forestall.learning.recurrent.engine import Engine
from forestall.learning.recurrent.forecaster import Recurrent, RecurrentSettings
from forestall.learning.recurrent.inputs import INPUTS, model_inputs
from forestall.model.forecast import LEVELS
from forestall.model.resources import Resource
from forestall.model.samples import Float32Array
from forestall.profiling.window import Window

STEP_SECONDS = 300
HISTORY_STEPS = 300
SIZES = (100, 10_000)
TARGETS = DemandSettings(STEP_SECONDS).targets


class Host:
    """VMs with some history in two resources."""

    def __init__(self, vms: int) -> None:
        self._generator = np.random.default_rng(0)
        self._limit = np.full(vms, 4.0)
        self._level = self._generator.gamma(1.0, 0.3, vms)
        self.past = Past(Resource.CPU, STEP_SECONDS)
        self.beside = {Resource.MEMORY: Window(STEP_SECONDS, floor_of(Resource.MEMORY))}
        self.now = 0
        for _ in range(HISTORY_STEPS):
            self.push()

    def push(self) -> None:
        """One more step of demand, of both resources."""
        shape = len(self._level)
        self.now += STEP_SECONDS
        self.past.take_in(self._level * self._generator.gamma(4.0, 0.25, shape), self._limit, self.now)
        self.beside[Resource.MEMORY].push(self._generator.gamma(4.0, 2.0**28, shape), np.full(shape, 2.0**32))


def whole(host: Host) -> Callable[[], object]:
    """Everything the expert does in a step."""
    models = models_in_use(None, print)
    expert = Recurrent(host.past, host.beside, TARGETS, LEVELS, RecurrentSettings(models))

    def step() -> object:
        expert.observe(host.past.window, host.now)
        return expert.forecast(host.past.window, host.now)

    return step


def cell(host: Host) -> Callable[[], object]:
    """The network alone: one evaluation of its graph."""
    vms = host.past.window.vms
    engine = Engine(models_in_use(None, print)[Resource.CPU], TARGETS, np.zeros((0, vms, INPUTS), np.float32))
    seen = model_inputs(host.past, host.beside, host.now)
    return lambda: engine.step(seen)


def inputs(host: Host) -> Callable[[], Float32Array]:
    """What the network sees."""
    return lambda: model_inputs(host.past, host.beside, host.now)


def adapter(host: Host) -> Callable[[], object]:
    """What is fitted to each VM."""
    window, fitted = host.past.window, Adapter(TARGETS, LEVELS)
    random = np.random.default_rng(1).normal(size=(len(TARGETS), window.vms, len(LEVELS)))
    said = np.sort(random, axis=-1).astype(np.float32)

    def step() -> object:
        fitted.learn(window)
        fitted.issue(said, window.last.copy(), window.scale())
        return fitted.apply(said)

    return step


@pytest.mark.parametrize("part", [whole, cell, inputs, adapter], ids=lambda part: part.__name__)
@pytest.mark.parametrize("vms", SIZES)
def test_serving(benchmark, vms: int, part: Callable[[Host], Callable[[], object]]) -> None:  # type: ignore[no-untyped-def]
    """Seconds of one step."""
    host = Host(vms)
    step = part(host)
    benchmark.pedantic(step, setup=host.push, rounds=60, warmup_rounds=15)
