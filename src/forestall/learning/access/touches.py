"""How probable it is that a page near one that was just touched is touched too, for the first time: a logistic model.

It knows nothing of the program. Its terms are how far the page lies, in which direction, whether its neighbours are
touched, how long the run of touched pages below it is, whether it lies one step of the last kind further on, and how
many pages around were touched of late. Its weights come with it: they were fitted to the first touches of four
programs (each left out in turn costs nothing), counting only a page's last chance to be staged, for staging a page
that can be staged later is worth nothing.
"""

from __future__ import annotations

import math

import numpy as np

from forestall.learning.compiled import compiled, entry
from forestall.model.samples import FloatArray, IntArray

BELOW, ABOVE = 16, 32
"""Pages that are looked at below and above the one that was touched."""
NEVER = -(1 << 62)
_FAR, _FARTHER = 256, 300
_LONGEST_RUN = 64
_AROUND, _OF_LATE = 32, 128
MARGIN_BELOW, MARGIN_ABOVE = BELOW + _FAR + _LONGEST_RUN, ABOVE + _AROUND
"""So many pages on either side of a touch are needed to look at its neighbours."""
_GAP, _DISTANCE, _ABOVE, _AFTER_TOUCHED, _BEFORE_TOUCHED = -0.26, -0.74, 0.62, 1.39, 0.90
_RUN, _AFTER_RUN, _SAME_STEP, _BUSY, _BASE = -0.13, 0.28, 1.33, 0.51, -0.19


@entry
def chances(touched_at: IntArray, here: int, now: int, found: FloatArray) -> None:
    """Find the probability that each neighbour is touched.

    Parameters
    ----------
    touched_at
        Array (page,): number of the touch of each page around, :data:`NEVER` if there was none; at least
        :data:`MARGIN_BELOW` pages below and :data:`MARGIN_ABOVE` above the one at index ``here``.
    here
        Index of the page that was just touched.
    now
        Number of its touch.
    found
        Array (49,), is filled: probabilities of the pages from 16 below to 32 above; -1 for those that are touched.
    """
    step = _last_step(touched_at, here)
    busy = 0
    for page in range(here - BELOW - _AROUND, here - BELOW + _AROUND + 1):
        busy += now - touched_at[page] < _OF_LATE
    for k in range(BELOW + ABOVE + 1):
        page = here - BELOW + k
        if k > 0:
            busy += now - touched_at[page + _AROUND] < _OF_LATE
            busy -= now - touched_at[page - 1 - _AROUND] < _OF_LATE
        found[k] = -1.0 if touched_at[page] != NEVER else _chance(touched_at, page, page - here, step, busy)


@compiled
def _last_step(touched_at: IntArray, here: int) -> int:
    """From the page nearby that was touched last before, to this one; 0: there is none."""
    newest, step = NEVER, 0
    for page in range(here - _AROUND, here + _AROUND + 1):
        if page != here and touched_at[page] > newest:
            newest, step = touched_at[page], here - page
    return step


@compiled
def _chance(touched_at: IntArray, page: int, distance: int, step: int, busy: int) -> float:
    gap = 1
    while gap <= _FAR and touched_at[page - gap] == NEVER:
        gap += 1
    run = 0
    if gap > _FAR:
        gap = _FARTHER
    else:
        while run < _LONGEST_RUN and touched_at[page - gap - run] != NEVER:
            run += 1
    after, length = gap == 1, math.log2(run + 1.0)
    odds = _BASE + _GAP * math.log2(gap) + _DISTANCE * math.log2(abs(distance)) + _RUN * length
    odds += _ABOVE * (distance > 0) + _SAME_STEP * (distance == step) + _BUSY * math.log2(busy + 1.0)
    odds += after * (_AFTER_TOUCHED + _AFTER_RUN * length) + _BEFORE_TOUCHED * (touched_at[page + 1] != NEVER)
    return 1.0 / (1.0 + math.exp(-odds))


def untouched(pages: int) -> IntArray:
    """So many pages that nobody has touched."""
    return np.full(pages, NEVER, np.int64)
