"""How probable it is that an item is used soon: evidence of several kinds, weighed online by log loss.

Each kind of evidence falls into one of some bins, each bin has a weight, and the weights of an item's bins are added
up to the logarithm of its odds: a generalized additive model, fitted by stochastic gradient descent. Outcomes are
waited for: an item that was asked about is a success when it is used within the horizon, else a failure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.learning.access.items import NOBODY
from forestall.learning.compiled import compiled
from forestall.model.samples import FloatArray, IntArray

BINS = 128
RATE, BASE_RATE = 0.05, 0.005
FIRST_BASE = -2.0
BEGUN, ENDED = 0, 1


class Odds(NamedTuple):
    """Weights, and questions whose answers are waited for, in a ring.

    Attributes
    ----------
    weight
        Array (kind, bin).
    base
        Array (1,): logarithm of the odds of an item without evidence.
    question
        Array (slot,): number of the question about each item; NOBODY: none.
    item, at, bins
        Arrays (place,), (place,), (place, kind): what was asked about, at which access, and its evidence.
    counts
        Array (2,): questions that were asked, and those of them whose time is over.
    """

    weight: FloatArray
    base: FloatArray
    question: IntArray
    item: NDArray[np.int32]
    at: IntArray
    bins: NDArray[np.uint8]
    counts: IntArray

    @classmethod
    def of(cls, slots: int, kinds: int, questions: int) -> Odds:
        """Nothing learned yet, of so many kinds of evidence; room for so many questions (a power of two)."""
        return cls(
            weight=np.zeros((kinds, BINS)),
            base=np.full(1, FIRST_BASE),
            question=np.full(slots, NOBODY, np.int64),
            item=np.zeros(questions, np.int32),
            at=np.zeros(questions, np.int64),
            bins=np.zeros((questions, kinds), np.uint8),
            counts=np.zeros(2, np.int64),
        )


@compiled
def probability(odds: Odds, bins: NDArray[np.uint8]) -> float:
    """Probability of an item with this evidence (kind,)."""
    log_odds = odds.base[0]
    for kind in range(len(bins)):
        log_odds += odds.weight[kind, bins[kind]]
    return 1.0 / (1.0 + math.exp(-log_odds))


@compiled
def wait(odds: Odds, slot: int, now: int, bins: NDArray[np.uint8]) -> None:
    """Wait for the answer about an item, unless one is waited for or there is no room."""
    if odds.question[slot] != NOBODY or odds.counts[BEGUN] - odds.counts[ENDED] >= len(odds.item):
        return
    place = odds.counts[BEGUN] & (len(odds.item) - 1)
    odds.question[slot] = odds.counts[BEGUN]
    odds.item[place], odds.at[place] = slot, now
    for kind in range(len(bins)):
        odds.bins[place, kind] = bins[kind]
    odds.counts[BEGUN] += 1


@compiled
def answer(odds: Odds, slot: int, now: int, delay: int) -> None:
    """An item is used: a success, unless it comes before what one asks for now could have arrived."""
    question = odds.question[slot]
    if question == NOBODY:
        return
    place = question & (len(odds.item) - 1)
    if now - odds.at[place] > delay:
        _learn(odds, odds.bins[place], 1.0)
        odds.question[slot] = NOBODY


@compiled
def give_up(odds: Odds, now: int, horizon: float) -> None:
    """Questions that are older than ``horizon`` accesses were failures."""
    while odds.counts[ENDED] < odds.counts[BEGUN]:
        place = odds.counts[ENDED] & (len(odds.item) - 1)
        if now - odds.at[place] <= horizon:
            return
        slot = odds.item[place]
        if odds.question[slot] == odds.counts[ENDED]:
            _learn(odds, odds.bins[place], 0.0)
            odds.question[slot] = NOBODY
        odds.counts[ENDED] += 1


@compiled
def _learn(odds: Odds, bins: NDArray[np.uint8], came: float) -> None:
    slope = came - probability(odds, bins)
    odds.base[0] += BASE_RATE * slope
    for kind in range(len(bins)):
        odds.weight[kind, bins[kind]] += RATE * slope
