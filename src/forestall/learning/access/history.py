"""What was used, in order, and where the present has been before.

The present is matched by contexts: the last 1, 2, 3, 6 and 16 accesses of its stream. What followed then may follow
now. Long contexts find the loop that a program is in, short ones find pairs (Markov models of mixed order; Cleary and
Witten, prediction by partial matching, 1984; probability graphs, Griffioen and Appleton, 1994; temporal streams,
Wenisch et al., 2005). The history is a ring: what is older than it is long is forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.learning.access.items import NOBODY, Items, mixed, slot_of
from forestall.learning.compiled import compiled
from forestall.model.samples import IntArray

ORDERS = (1, 2, 3, 6, 16)
LONGEST = 16
MATCHES = 4
"""Of each order so many earlier places are looked at, the newest first."""
_TRIES = 2 * MATCHES
_LOW = 0xFFFFFFFF


class History(NamedTuple):
    """A ring of accesses; a position is the number of an access, its place in the ring that modulo the length.

    Attributes
    ----------
    tag, after
        Arrays (place,): what was used, and how many accesses later its stream went on (0: not yet).
    link, mark
        Arrays (order, place): how many accesses before there was perhaps the same context (0: not in the ring), and
        the hash of the context.
    table
        Array (order, bucket): newest position of contexts of each hash, modulo 2**32.
    recent, length, newest
        Arrays (stream, 16), (stream,), (stream,): its last tags, how many accesses it had, position of the last.
    """

    tag: IntArray
    after: NDArray[np.uint32]
    link: NDArray[np.uint32]
    mark: NDArray[np.uint32]
    table: NDArray[np.uint32]
    recent: IntArray
    length: IntArray
    newest: IntArray

    @classmethod
    def of(cls, accesses: int, streams: int) -> History:
        """Room for so many accesses (a power of two) of so many streams."""
        return cls(
            tag=np.full(accesses, NOBODY, np.int64),
            after=np.zeros(accesses, np.uint32),
            link=np.zeros((len(ORDERS), accesses), np.uint32),
            mark=np.zeros((len(ORDERS), accesses), np.uint32),
            table=np.full((len(ORDERS), accesses), _LOW - accesses, np.uint32),
            recent=np.zeros((streams, LONGEST), np.int64),
            length=np.zeros(streams, np.int64),
            newest=np.full(streams, NOBODY, np.int64),
        )


class Matches(NamedTuple):
    """Earlier positions that the present is like; longest contexts first.

    Attributes
    ----------
    at, order
        Arrays (match,): position, and index of the order that found it.
    found
        Array (order,): how many each order found that no longer one had.
    total
        Array (1,): how many they are.
    """

    at: IntArray
    order: IntArray
    found: IntArray
    total: IntArray

    @classmethod
    def none(cls) -> Matches:
        """Room for all that there can be."""
        most = MATCHES * len(ORDERS)
        empty = (np.zeros(n, np.int64) for n in (most, most, len(ORDERS), 1))
        return cls(*empty)


class Followers(NamedTuple):
    """Items that followed the matches, as far as one looks; arrays (slot,) are valid where ``asked`` is now.

    Attributes
    ----------
    asked
        Position for which the rest was gathered.
    counts
        Array (slot, order): matches of each order that it followed.
    nearest, top
        Least number of steps behind a match, and the longest order that found it.
    ahead
        So many steps further on in the run that the present access is in; 0: not in it.
    slots, total
        The items, and how many they are (1,).
    by
        The last match that counted.
    """

    asked: IntArray
    counts: NDArray[np.uint8]
    nearest: NDArray[np.int16]
    top: NDArray[np.int8]
    ahead: NDArray[np.int8]
    by: NDArray[np.int8]
    slots: NDArray[np.int32]
    total: IntArray

    @classmethod
    def none(cls, slots: int, most: int) -> Followers:
        """Room for so many items, ``most`` of them at a time."""
        return cls(
            asked=np.full(slots, NOBODY, np.int64),
            counts=np.zeros((slots, len(ORDERS)), np.uint8),
            nearest=np.zeros(slots, np.int16),
            top=np.zeros(slots, np.int8),
            ahead=np.zeros(slots, np.int8),
            by=np.zeros(slots, np.int8),
            slots=np.zeros(most, np.int32),
            total=np.zeros(1, np.int64),
        )


@compiled
def append(history: History, now: int, stream: int, tag: int) -> None:
    """Take in the access at position ``now``; positions count up, one for each access."""
    ring = len(history.tag) - 1
    place, before = now & ring, history.newest[stream]
    if before >= 0 and now - before <= ring:
        history.after[before & ring] = now - before
    history.tag[place], history.after[place] = tag, 0
    history.newest[stream] = now
    length = history.length[stream]
    history.recent[stream, length % LONGEST] = tag
    history.length[stream] = length + 1
    _index(history, now, stream)


@compiled
def _index(history: History, now: int, stream: int) -> None:
    """Write down the context of each order under its hash."""
    ring, length = len(history.tag) - 1, history.length[stream]
    place, h, order = now & ring, 0, 0
    for back in range(min(length, LONGEST)):
        h = mixed(h, history.recent[stream, (length - 1 - back) % LONGEST])
        if back + 1 == ORDERS[order]:
            bucket = h & ring
            ago = (now - np.int64(history.table[order, bucket])) & _LOW
            history.link[order, place] = ago if ago <= ring else 0
            history.mark[order, place] = (h >> 32) & _LOW
            history.table[order, bucket] = now & _LOW
            order += 1
    for missing in range(order, len(ORDERS)):
        history.link[missing, place] = 0


@compiled
def match(history: History, now: int, matches: Matches) -> None:
    """Find the newest earlier positions with the same contexts as the access at ``now``, longest contexts first."""
    ring = len(history.tag) - 1
    place, count = now & ring, 0
    for order in range(len(ORDERS) - 1, -1, -1):
        found, tries, at = 0, 0, now
        ago = int(history.link[order, place])
        while ago > 0 and now - at + ago <= ring and found < MATCHES and tries < _TRIES:
            at -= ago
            if history.mark[order, at & ring] == history.mark[order, place] and not _has(matches, count, at):
                matches.at[count], matches.order[count] = at, order
                count += 1
                found += 1
            tries += 1
            ago = int(history.link[order, at & ring])
        matches.found[order] = found
    matches.total[0] = count


@compiled
def _has(matches: Matches, count: int, at: int) -> bool:
    for k in range(count):  # noqa: SIM110  (numba has no any() over a generator)
        if matches.at[k] == at:
            return True
    return False


@compiled
def gather(
    history: History, items: Items, now: int, matches: Matches, delay: int, reach: int, followers: Followers
) -> None:
    """Gather the items that followed matches: of each the first ``reach`` of more than ``delay`` accesses later."""
    ring = len(history.tag) - 1
    followers.total[0] = 0
    for k in range(matches.total[0]):
        start = matches.at[k]
        at, ahead, steps = start + np.int64(history.after[start & ring]), 0, 0
        while start < at < now and ahead < reach and steps < reach + delay:
            if at - start > delay:
                ahead += 1
                slot = slot_of(items, history.tag[at & ring])
                if slot != NOBODY:
                    _count(followers, slot, now, k, matches.order[k], ahead)
            step = np.int64(history.after[at & ring])
            if step == 0:
                break
            steps += 1
            at += step


@compiled
def ask(followers: Followers, slot: int, now: int) -> bool:
    """Have an item among those that are asked about now; whether it was not."""
    if followers.asked[slot] == now:
        return False
    followers.asked[slot] = now
    followers.slots[followers.total[0]] = slot
    followers.total[0] += 1
    for order in range(len(ORDERS)):
        followers.counts[slot, order] = 0
    followers.nearest[slot], followers.top[slot], followers.ahead[slot], followers.by[slot] = 0, 0, 0, NOBODY
    return True


@compiled
def _count(followers: Followers, slot: int, now: int, match: int, order: int, ahead: int) -> None:
    if ask(followers, slot, now):
        followers.nearest[slot], followers.top[slot] = ahead, order
    if followers.by[slot] != match:
        followers.by[slot] = match
        followers.counts[slot, order] += 1
        followers.nearest[slot] = min(followers.nearest[slot], ahead)
