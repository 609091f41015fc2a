"""Starting with history: the loops learn the recent past from the store, in bounded time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from forestall.demand.core import Conditions, DemandLoop
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace

PROBE_ROWS = 8
"""Absorbed, and decided on, first, to know what a row costs."""

Steady = Callable[[], float]
ConditionsOf = Callable[[Resource, FloatArray, int], Conditions]
"""What policy and pools said about a resource: limits (vm,) and an instant in, conditions out."""


@dataclass(frozen=True)
class WarmingSettings:
    """How much of the past is learned at a start.

    Attributes
    ----------
    most_rows
        Rows of history that are read at most; a loop's window may hold fewer.
    stepped_rows
        The last of them are decided on, so that weights, calibration and prices are learned too; that costs more.
    most_seconds
        No longer than this in all; what does not fit is left out from the older end, or only absorbed: the newest rows
        are decided on as long as there is time for any.
    """

    most_rows: int = 4_032
    stepped_rows: int = 360
    most_seconds: float = 30.0


def warm(
    loops: Mapping[Resource, DemandLoop],
    history: Trace,
    conditions: ConditionsOf,
    settings: WarmingSettings,
    steady: Steady,
) -> int:
    """Teach loops the rows of ``history``, whose VMs are the beginning of the roster; how many rows were learned."""
    known = {r: loop for r, loop in loops.items() if r in history.demand}
    steps = history.grid.steps
    if not known or not steps:
        return 0
    until = steady() + settings.most_seconds
    limit = {r: history.known_limit(r) for r in known}

    def learn(row: int, *, decide: bool) -> None:
        now = history.grid.at(row)
        for r, loop in known.items():
            loop.take_in(history.demand[r][row], limit[r][row], now)
        for r, loop in known.items():
            if decide:
                loop.decide(history.demand[r][row], limit[r][row], now, conditions(r, limit[r][row], now))
            else:
                loop.absorb(now)

    stepped = max(steps - settings.stepped_rows, 0)
    capacity = min(loop.learner.window.capacity for loop in known.values())
    rows = list(range(max(steps - min(settings.most_rows, capacity), 0), stepped))
    started = steady()
    for row in rows[:PROBE_ROWS]:
        learn(row, decide=False)
    cost = (steady() - started) / PROBE_ROWS
    affordable = int(max(until - steady(), 0.0) / 2 / cost) if cost > 0 else len(rows)
    # What does not fit is left out behind the probe, so that all that follows is without a hole.
    rest = rows[max(PROBE_ROWS, len(rows) - affordable) :]
    for row in rest:
        learn(row, decide=False)
    spent, decided = 0.0, 0
    for row in range(stepped, steps):
        began = steady()
        affords = decided < PROBE_ROWS or (steps - row) * spent / decided <= until - began
        learn(row, decide=affords)
        if affords:
            spent, decided = spent + steady() - began, decided + 1
    return min(len(rows), PROBE_ROWS) + len(rest) + steps - stepped


def since_first_sample(history: Trace) -> Trace:
    """The part of a trace that begins with its first sample of any VM."""
    first = int(history.first_seen().min(initial=history.grid.steps))
    grid = Grid(history.grid.at(first), history.grid.step_seconds, history.grid.steps - first)
    demand = {r: values[first:] for r, values in history.demand.items()}
    return replace(history, grid=grid, demand=demand, limit={r: values[first:] for r, values in history.limit.items()})
