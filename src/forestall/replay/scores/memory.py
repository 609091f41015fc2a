"""Scores of guest memory that was populated before its first touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray
from forestall.replay.memory.area import Move


@dataclass(frozen=True)
class MemoryScores:
    """What a policy is worth.

    Attributes
    ----------
    touches, in_time
        First touches that were scored, and those of them whose page was staged by then.
    coverage
        Share of the touches that were served.
    staged, precision
        Pages that were staged, each time that they were, and the share of them that was touched while staged.
    let_go
        Pages that were let go untouched.
    most_staged
        Most pages that were staged at a time.
    """

    touches: int
    in_time: int
    coverage: float
    staged: int
    precision: float
    let_go: int
    most_staged: int


def score_memory(hit: BoolArray, moves: Sequence[Move], first: int) -> MemoryScores:
    """Score from touch ``first`` on.

    Parameters
    ----------
    hit
        Array (touch,): whether each page was staged when it was touched.
    moves
        What was staged and let go, in order.
    """
    touches, in_time = len(hit) - first, int(hit[first:].sum())
    staged = sum(move.staged for move in moves if move.after >= first)
    let_go = sum(not move.staged for move in moves if move.after >= first)
    return MemoryScores(
        touches=touches,
        in_time=in_time,
        coverage=in_time / touches if touches else float("nan"),
        staged=staged,
        precision=in_time / staged if staged else float("nan"),
        let_go=let_go,
        most_staged=_most(hit, moves),
    )


def _most(hit: BoolArray, moves: Sequence[Move]) -> int:
    """Most pages that were staged at a time, after what a touch takes and before the next."""
    change = np.zeros(len(hit), np.int64)
    for move in moves:
        change[move.after] += 1 if move.staged else -1
    return int(np.cumsum(change - hit).max(initial=0))
