"""Runs of equal steps: of each stream, and of each region of numbers, where several runs may be interleaved.

Sequential reading is a run of steps of one; a walk over rows of a table is one of larger steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from forestall.learning.access.items import mixed
from forestall.learning.compiled import compiled
from forestall.model.samples import IntArray

REGION_SHIFT = 8
REGIONS = 1 << 14
LONGEST_STEP = 64
"""A longer step is a jump."""
SURE = 2
"""So many equal steps in a row make a run, if they are not of one: else the next step may be one."""
STEP, LENGTH, GAP = 0, 1, 2


class Runs(NamedTuple):
    """Arrays (place,): a place for each stream, then one for each region that the hash tells apart.

    Attributes
    ----------
    key
        What the place is of.
    last, at
        Number that was used last, and the access that did.
    step, length
        The step, and how often it came in a row.
    now
        Array (3,): step, length, and accesses from one to the next, of the run that the present access is in.
    """

    key: IntArray
    last: IntArray
    at: IntArray
    step: IntArray
    length: IntArray
    now: IntArray

    @classmethod
    def of(cls, streams: int) -> Runs:
        """No run of any of so many streams."""
        places = streams + REGIONS
        key, last, at, step, length = (np.full(places, -1, np.int64) for _ in range(5))
        return cls(key, last, at, step, length, np.zeros(3, np.int64))


@compiled
def run_on(runs: Runs, now: int, stream: int, space: int, number: int) -> None:
    """Take in an access; ``runs.now`` is of the longer of its two runs."""
    region = mixed(number >> REGION_SHIFT, space)
    place = len(runs.key) - REGIONS + (region & (REGIONS - 1))
    own = _take(runs, now, stream, stream, number)
    gap = _take(runs, now, place, region, number)
    longer = place if runs.length[place] > runs.length[stream] else stream
    runs.now[STEP], runs.now[LENGTH] = runs.step[longer], runs.length[longer]
    runs.now[GAP] = max(gap if longer == place else own, 1)
    if runs.now[STEP] != 1 and runs.now[LENGTH] < SURE:
        runs.now[STEP], runs.now[LENGTH] = 1, 0


@compiled
def _take(runs: Runs, now: int, place: int, key: int, number: int) -> int:
    """Take a number in at a place; accesses since the last one there."""
    gap = int(now - runs.at[place])
    if runs.key[place] != key:
        runs.key[place], runs.step[place], runs.length[place] = key, 1, 0
    else:
        step = number - runs.last[place]
        if step == 0:
            return gap
        if step == runs.step[place]:
            runs.length[place] += 1
        else:
            runs.step[place] = step if -LONGEST_STEP <= step <= LONGEST_STEP else 1
            runs.length[place] = 1 if step == runs.step[place] else 0
    runs.last[place], runs.at[place] = number, now
    return gap
