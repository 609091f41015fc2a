"""The recurrent model of peaks: one graph, and what is known of how it came about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import onnxruntime

from forestall.learning.recurrent.serving import session
from forestall.model.samples import Float32Array

HORIZON_BEATS: tuple[int, ...] = (4, 10, 20)
"""100, 250 and 500 ms."""
LEVELS: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Dense where reservations are decided."""
SHIPPED = "shipped"


@dataclass(frozen=True)
class PeakModel:
    """A model as it is kept.

    Attributes
    ----------
    graph
        ONNX: inputs (beat, row, feature), state (1, row, cell), and of the last beat ratio (vm,) and member (pool, vm)
        in; own (row, horizon, level), shared (pool, horizon, level) and state_after (1, row, cell) out. Rows are the
        pools, then the VMs.
    about
        How it was trained, for a person.
    """

    graph: bytes
    about: dict[str, Any]

    @classmethod
    def shipped(cls) -> PeakModel:
        """The one that comes with Forestall."""
        folder = files(__package__) / SHIPPED
        about = json.loads((folder / "about.json").read_text("utf-8"))
        return cls((folder / "step.onnx").read_bytes(), about)


class ServedPeaks:
    """A model that runs, on one core."""

    def __init__(self, model: PeakModel) -> None:
        self._session: onnxruntime.InferenceSession = session(model.graph)
        self._cells = int(self._session.get_inputs()[1].shape[2])

    def fresh_state(self, rows: int) -> Float32Array:
        """State (1, row, cell) of rows of which nothing is known."""
        return np.zeros((1, rows, self._cells), np.float32)

    def walk(
        self, inputs: Float32Array, state: Float32Array, ratio: Float32Array, member: Float32Array
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Walk through some beats; see :class:`PeakModel`."""
        own, shared, after = self._session.run(
            None, {"inputs": inputs, "state": state, "ratio": ratio, "member": member}
        )
        return own, shared, after
