"""Runs the graphs of a recurrent model, on one core."""

from __future__ import annotations

import numpy as np
import onnxruntime

from forestall.learning.recurrent.inputs import INPUTS
from forestall.learning.recurrent.model import RecurrentModel
from forestall.model.errors import BadInput
from forestall.model.samples import Float32Array, IntArray

STATES = {"lstm": 2, "gru": 1}


class Served:
    """Both graphs of a model, ready to run.

    Parameters
    ----------
    model
        What to run.

    Raises
    ------
    BadInput
        It was made for other inputs, or is no ONNX model.
    """

    def __init__(self, model: RecurrentModel) -> None:
        about = model.about
        if about.inputs != INPUTS or about.kind not in STATES:
            raise BadInput(f"is a {about.kind} of {about.inputs} inputs; this version needs {INPUTS}")
        self.about = about
        self._step, self._window = session(model.step), session(model.window)

    def fresh_state(self, vms: int) -> Float32Array:
        """State (layer, vm, cell) of VMs of which nothing is known."""
        return np.zeros((STATES[self.about.kind], vms, self.about.hidden), np.float32)

    def step(self, inputs: Float32Array, state: Float32Array, wanted: IntArray) -> tuple[Float32Array, Float32Array]:
        """One step: quantiles (target, vm, level) of the targets ``wanted``, and the new state (layer, vm, cell).

        ``wanted`` are places in the model's targets; what is not wanted costs nothing.
        """
        quantiles, after = self._step.run(None, {"inputs": inputs, "state": state, "wanted": wanted})
        return quantiles, after

    def window(self, inputs: Float32Array) -> Float32Array:
        """State (layer, vm, cell) after the steps of ``inputs`` (time, vm, input), starting from nothing."""
        after: Float32Array = self._window.run(None, {"inputs": inputs})[0]
        return after


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """A graph, ready to run on one core; :class:`BadInput` where it cannot be."""
    options = onnxruntime.SessionOptions()
    # More threads than one wait for each other in busy loops, beside whatever else the host does.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of error for each status, and no common one that it exports
        raise BadInput(f"is not an ONNX model that can be run: {error}") from error
