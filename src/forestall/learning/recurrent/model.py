"""A trained recurrent model: two graphs, and what is known of how it came about."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from forestall.learning.recurrent.inputs import INPUTS
from forestall.model.errors import BadInput
from forestall.model.forecast import Statistic, Target
from forestall.model.resources import Resource


@dataclass(frozen=True)
class About:
    """What a model is and where it comes from.

    Attributes
    ----------
    kind
        ``lstm`` or ``gru``.
    hidden
        Cells.
    inputs
        Length of the input of a VM; a model with another length was made for other inputs and is refused.
    resource
        What it forecasts.
    targets, levels
        Axes of its output, after the VM.
    trained_on
        What it was trained on, in words for a person.
    data_hash
        SHA-256 of what it was trained on.
    vms, steps, step_seconds, until
        How many VMs and intervals, their length, and the start of the newest one.
    scores
        Losses on intervals that it was not trained on, in the resource's unit, by name.
    """

    kind: str
    hidden: int
    resource: Resource
    targets: tuple[Target, ...]
    levels: tuple[float, ...]
    inputs: int = INPUTS
    trained_on: str = ""
    data_hash: str = ""
    vms: int = 0
    steps: int = 0
    step_seconds: int = 0
    until: int = 0
    seed: int = 0
    scores: dict[str, float] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> About:
        """Read what :meth:`as_record` gave.

        Raises
        ------
        BadInput
            Something is missing, or is not what it should be.
        """
        try:
            axes = {
                "resource": Resource(record["resource"]),
                "targets": tuple(Target(Statistic(t["statistic"]), int(t["steps"])) for t in record["targets"]),
                "levels": tuple(float(level) for level in record["levels"]),
            }
            return cls(**{**record, **axes})
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"does not describe a recurrent model: {error}") from error


@dataclass(frozen=True)
class RecurrentModel:
    """Graphs in ONNX form.

    Attributes
    ----------
    about
        What it is.
    step
        One step of all VMs: inputs (vm, input), state (layer, vm, cell) and the places of the wanted targets in,
        quantiles (target, vm, level) and the new state out. Quantiles are differences from the last sample in units of
        the VM's scale.
    window
        Several steps: inputs (time, vm, input) in, the state after the last out.
    """

    about: About
    step: bytes
    window: bytes
