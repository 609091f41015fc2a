"""What a peer is: a policy that people use today, replayed with its one knob.

A peer looks at the demand of many series at once, and answers with a function from its knob (a margin or a
quantile level) to allocations, so that the costly part is computed once and the knob is swept cheaply. It is
judged twice: with the knob as shipped, and with the knob that suits the trace best in hindsight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid

Allocate = Callable[[float], FloatArray]
"""From a knob to allocations (time, series): row i is what is in force in interval i, NaN: no opinion."""


@dataclass(frozen=True)
class SeriesBlock:
    """Demand of one resource as a peer sees it.

    Attributes
    ----------
    demand
        Array (time, series), capped at the limit, NaN in gaps.
    limit
        Array (time, series), filled forward; inf where the resource has none, NaN before the first sample.
    lead_steps
        What is decided on rows up to i is in force in interval i + lead_steps.
    """

    resource: Resource
    grid: Grid
    demand: FloatArray
    limit: FloatArray
    lead_steps: int

    def delayed(self, decided: FloatArray) -> FloatArray:
        """Move decisions (row i: decided after interval i) to the interval in which they are in force."""
        moved = np.full(decided.shape, np.nan)
        moved[self.lead_steps :] = decided[: max(len(decided) - self.lead_steps, 0)]
        return moved


class Peer(Protocol):
    """A policy to compare with. Strictly causal: row i of the answer uses rows <= i - lead_steps only."""

    name: str
    """Name on the command line and in reports."""
    shipped: float
    """The knob as its authors ship it."""
    knobs: tuple[float, ...]
    """Knobs from tight to generous that span violation rates from about 10 % to 0.05 %."""

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Do the knob-independent work for a block of series."""
        ...
