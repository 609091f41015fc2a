"""A recurrent model with the state of every VM."""

from __future__ import annotations

import numpy as np

from forestall.learning.recurrent.model import RecurrentModel
from forestall.learning.recurrent.serving import Served
from forestall.model.forecast import Target
from forestall.model.samples import Float32Array, IntArray
from forestall.profiling.window import retained


class Engine:
    """Steps a model through time.

    Parameters
    ----------
    model
        What to run.
    targets
        What is wanted of it.
    remembered
        Inputs (time, vm, input) of the last steps, oldest first: the state begins as it would be after them.

    Raises
    ------
    BadInput
        The model cannot be run.

    Attributes
    ----------
    model
        What is run.
    targets
        Those of the wanted ones that the model forecasts.
    quantiles
        Array (target, vm, level) after the newest step, in units of scale from the last sample; None before the first.
    """

    def __init__(self, model: RecurrentModel, targets: tuple[Target, ...], remembered: Float32Array) -> None:
        self.model = model
        self.targets = tuple(t for t in targets if t in model.about.targets)
        self._wanted = np.array([model.about.targets.index(t) for t in self.targets], np.int64)
        self._served = Served(model)
        steps, vms, _ = remembered.shape
        self._state = self._served.window(remembered) if steps and vms else self._served.fresh_state(vms)
        self.quantiles: Float32Array | None = None

    def step(self, inputs: Float32Array) -> None:
        """See one step: inputs (vm, input). More VMs than before are new ones."""
        fresh = self._served.fresh_state(len(inputs) - self._state.shape[1])
        self.quantiles, self._state = self._served.step(
            inputs, np.concatenate([self._state, fresh], axis=1), self._wanted
        )

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self._state = retained(self._state, rows, 1)
        self.quantiles = None
