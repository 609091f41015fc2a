"""What speaks for an item being used soon, in bins.

For each order of context: how many places like the present there were, and after how many of them the item came. How
far ahead it stood, and by which order. How often and how lately it was used. Where a run would bring it, how far ahead
and how long the run is. How often what is used now was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forestall.learning.access.history import MATCHES, ORDERS, Followers, Matches
from forestall.learning.access.items import Items
from forestall.learning.access.runs import LENGTH, Runs
from forestall.learning.compiled import compiled

KINDS = len(ORDERS) + 6
MOST = 15
LONG_RUN = 2
_NEAR, _USES, _AGE, _AHEAD, _PRESENT, _RUN = range(len(ORDERS), KINDS)
_WIDTH = MATCHES + 1


@compiled
def magnitude(value: int) -> int:
    """Binary digits of a number, at most :data:`MOST`."""
    digits = 0
    while value > 0 and digits < MOST:
        value >>= 1
        digits += 1
    return digits


@compiled
def weigh(
    bins: NDArray[np.uint8],
    items: Items,
    matches: Matches,
    followers: Followers,
    runs: Runs,
    life: float,
    now: int,
    used: int,
    slot: int,
) -> None:
    """Put the evidence for an item into ``bins`` (kind,).

    Parameters
    ----------
    bins
        Is filled.
    items, matches, followers, runs
        What is known, and what was gathered for this access.
    life
        For how many accesses what is not used stays.
    now, used
        Number of the access, and slot of the item that it used.
    slot
        The item.
    """
    for order in range(len(ORDERS)):
        bins[order] = matches.found[order] * _WIDTH + followers.counts[slot, order]
    near = magnitude(followers.nearest[slot]) if followers.nearest[slot] > 0 else MOST
    bins[_NEAR] = near + (MOST + 1) * followers.top[slot]
    bins[_USES] = magnitude(items.uses[slot])
    last = items.last[slot]
    bins[_AGE] = magnitude(int(16.0 * (now - last) / (life + 1.0))) if last >= 0 else MOST
    ahead = followers.ahead[slot]
    long_run = ahead > 0 and runs.now[LENGTH] >= LONG_RUN
    bins[_AHEAD] = ahead + (64 if long_run else 0)
    bins[_PRESENT] = magnitude(items.uses[used])
    bins[_RUN] = 1 + magnitude(runs.now[LENGTH]) if ahead > 0 else 0
