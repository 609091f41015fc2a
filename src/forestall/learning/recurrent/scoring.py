"""How good a recurrent model is on a stretch of the past that it was not trained on."""

from __future__ import annotations

import numpy as np

from forestall.learning.recurrent.model import RecurrentModel
from forestall.learning.recurrent.serving import Served
from forestall.learning.recurrent.tape import Tape
from forestall.model.samples import FloatArray


def losses(model: RecurrentModel, tape: Tape, scored_from: int) -> FloatArray:
    r"""Pinball losses of a model, in the resource's unit, each level divided by :math:`\sqrt{p(1-p)}`.

    Parameters
    ----------
    model
        What is scored; it sees the whole tape.
    tape
        What it is scored on.
    scored_from
        First step whose forecasts count; what lies before fills the state.

    Returns
    -------
    FloatArray
        Array (target, level): mean over VMs and steps; NaN where nothing was seen, inf where the model said nothing.
    """
    served = Served(model)
    levels = np.asarray(model.about.levels)
    outcomes = np.moveaxis(tape.outcomes(model.about.targets), -1, 0)
    total = np.zeros((len(model.about.targets), len(levels)))
    count = np.zeros(len(model.about.targets))
    state = served.window(tape.inputs[:scored_from].astype(np.float32)) if scored_from else served.fresh_state(tape.vms)
    every = np.arange(len(model.about.targets))
    for step in range(scored_from, tape.steps):
        quantiles, state = served.step(tape.inputs[step].astype(np.float32), state, every)
        error = outcomes[:, step, :, None] - quantiles
        known = np.isfinite(outcomes[:, step])
        loss = np.maximum(levels * error, (levels - 1.0) * error) * tape.scale[step][:, None]
        loss[np.isnan(quantiles)] = np.inf  # a model that diverged
        total += np.where(known[..., None], loss, 0.0).sum(axis=1)
        count += known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / np.sqrt(levels * (1.0 - levels)) / count[:, None]
