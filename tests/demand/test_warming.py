"""Learning from history in bounded time: what is left out is old."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.demand.core import Conditions, DemandLoop
from forestall.demand.settings import DemandSettings
from forestall.demand.warming import PROBE_ROWS, WarmingSettings, since_first_sample, warm
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace

CPU, STEP_SECONDS, ROWS, STEPPED_ROWS = Resource.CPU, 300, 200, 60
SHAPE = (ROWS, 2)
HISTORY = Trace(Grid(0, STEP_SECONDS, ROWS), ("a", "b"), {CPU: np.full(SHAPE, 1.0)}, {CPU: np.full(SHAPE, 4.0)})


class Watched(DemandLoop):
    """A loop whose rows cost time on a clock of its own; it notes what was done with each."""

    def __init__(self, absorb_seconds: float, step_seconds: float) -> None:
        super().__init__(CPU, DemandSettings(STEP_SECONDS))
        self.now = 0.0
        self.absorbed: list[int] = []
        self.stepped: list[int] = []
        self._costs = absorb_seconds, step_seconds

    def absorb(self, now: int) -> None:
        """Note the row."""
        self.now += self._costs[0]
        self.absorbed.append(now // STEP_SECONDS)

    def decide(self, demand: FloatArray, limit: FloatArray, now: int, conditions: Conditions | None = None):  # type: ignore[no-untyped-def]
        """Note the row."""
        self.now += self._costs[1]
        self.stepped.append(now // STEP_SECONDS)


def warmed(absorb_seconds: float, step_seconds: float, most_seconds: float = 30.0) -> tuple[Watched, int]:
    loop = Watched(absorb_seconds, step_seconds)
    settings = WarmingSettings(stepped_rows=STEPPED_ROWS, most_seconds=most_seconds)

    def conditions(resource: Resource, limit: FloatArray, now: int) -> Conditions:
        return Conditions.default(limit, (0.01,))

    learned = warm({CPU: loop}, HISTORY, conditions, settings, lambda: loop.now)
    return loop, learned


def test_with_time_enough_the_last_rows_are_decided_on_and_the_others_absorbed() -> None:
    loop, learned = warmed(0.01, 0.1)
    assert loop.absorbed == list(range(ROWS - STEPPED_ROWS))
    assert loop.stepped == list(range(ROWS - STEPPED_ROWS, ROWS))
    assert learned == ROWS


@pytest.mark.parametrize("step_seconds", [0.7, 1.0, 2.0])
def test_with_too_little_time_the_newest_rows_are_decided_on(step_seconds: float) -> None:
    loop, learned = warmed(0.001, step_seconds)
    newest = loop.stepped[PROBE_ROWS:]
    assert newest == list(range(ROWS - len(newest), ROWS))
    assert 0 < len(newest) < STEPPED_ROWS - PROBE_ROWS
    assert 30.0 - 2 * step_seconds <= loop.now <= 30.0 + step_seconds
    assert learned == ROWS


def test_without_time_hardly_anything_is_done() -> None:
    loop, learned = warmed(0.001, 10.0, most_seconds=1.0)
    assert len(loop.stepped) == PROBE_ROWS
    assert loop.absorbed[-1] == ROWS - 1
    assert learned == ROWS


def test_old_rows_that_cost_too_much_are_left_out() -> None:
    loop, learned = warmed(1.0, 0.0)
    kept = loop.absorbed[PROBE_ROWS:]
    assert kept == list(range(ROWS - STEPPED_ROWS - len(kept), ROWS - STEPPED_ROWS))
    assert len(kept) == (30 - PROBE_ROWS) // 2
    assert learned == PROBE_ROWS + len(kept) + STEPPED_ROWS


def test_a_history_begins_with_its_first_sample_if_it_has_one() -> None:
    steps = np.array([[np.nan, np.nan], [np.nan, 1.0], [2.0, 1.0]])
    for demand, left in ((steps, 2), (steps[:1], 0), (steps[:0], 0)):
        history = Trace(Grid(600, 300, len(demand)), ("a", "b"), {CPU: demand}, {CPU: np.ones_like(demand)})
        begun = since_first_sample(history)
        assert (begun.grid.steps, len(begun.demand[CPU])) == (left, left)
