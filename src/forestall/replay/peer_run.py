"""One peer on one resource of a trace: as shipped, over its knobs, and what it allocates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.demand_run import ResourceTrace
from forestall.replay.peers.base import SeriesBlock
from forestall.replay.peers.registry import peer
from forestall.replay.result import CurvePoint, Variant
from forestall.replay.scores.allocation import score_allocation


@dataclass(frozen=True)
class PeerRun:
    """Scores of a peer at each knob, the first as shipped.

    ``allocated`` (time, vm) is as shipped, from the first interval evaluated to the last one decided about, which lies
    behind the end of the trace by the lead.
    """

    trace: ResourceTrace
    points: tuple[CurvePoint, ...]
    allocated: FloatArray


def run_peer(
    name: str, trace: ResourceTrace, evaluate_index: int, lead_steps: int, budget: float, *, sweep: bool
) -> PeerRun:
    """Run a peer.

    Parameters
    ----------
    name
        Name of the peer.
    evaluate_index
        First interval that is scored.
    budget
        Violation budget against which the spread over VMs is scored.
    sweep
        Whether to score all knobs, or the shipped one only.
    """
    chosen = peer(name)
    demand = np.minimum(trace.demand, np.where(np.isnan(trace.limit), np.inf, trace.limit))
    allocate = chosen.prepare(_with_future(trace, demand, lead_steps))
    rows = slice(evaluate_index, trace.grid.steps)

    def point(variant: Variant, knob: float, allocated: FloatArray) -> CurvePoint:
        scores = score_allocation(
            trace.demand[rows], trace.limit[rows], allocated, trace.grid.step_seconds, budget=budget
        )
        return CurvePoint(name, variant, trace.resource, knob, scores)

    shipped = allocate(chosen.shipped)[evaluate_index:]
    first = Variant.ORACLE if name == "oracle" else Variant.SHIPPED
    points = [point(first, chosen.shipped, shipped[: trace.grid.steps - evaluate_index])]
    if sweep and first is Variant.SHIPPED:
        points += [point(Variant.TUNED, knob, allocate(knob)[rows]) for knob in chosen.knobs]
    return PeerRun(trace, tuple(points), shipped)


def _with_future(trace: ResourceTrace, demand: FloatArray, lead_steps: int) -> SeriesBlock:
    """The trace and the intervals after its end that are decided about: nothing is known of them."""
    after = ((0, lead_steps), (0, 0))
    return SeriesBlock(
        trace.resource,
        replace(trace.grid, steps=trace.grid.steps + lead_steps),
        np.pad(demand, after, constant_values=np.nan),
        np.pad(trace.limit, after, mode="edge"),
        lead_steps,
    )
