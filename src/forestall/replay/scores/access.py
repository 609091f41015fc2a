"""Scores of what was brought into a cache ahead of its use.

A miss costs; what comes ahead removes some misses of a plain cache (least recently used) and causes others, by what
it pushes out. Jumps, accesses that do not follow the one before, are counted apart: most streams are easy but for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, IntArray
from forestall.replay.access.cache import LATE, USED, Outcome


@dataclass(frozen=True)
class AccessScores:
    """What a policy is worth.

    Attributes
    ----------
    accesses, misses, plain_misses
        How many accesses were scored, missed, and miss in a plain cache.
    hit_ratio
        Share of accesses that hit.
    removed_share
        Share of the plain cache's misses that is gone, net of those that came.
    coverage, pollution
        Share of the plain cache's misses that became hits, and misses that were hits there, over its misses.
    issued, used
        Prefetches, and those of them that were used while they were there.
    precision
        Share of the prefetches that were used.
    timeliness
        Of what was asked for and used, the share that was there in time.
    jumps, jump_misses, plain_jump_misses, jump_removed_share
        The same of accesses that do not follow the one before.
    """

    accesses: int
    misses: int
    plain_misses: int
    hit_ratio: float
    removed_share: float
    coverage: float
    pollution: float
    issued: int
    used: int
    precision: float
    timeliness: float
    jumps: int
    jump_misses: int
    plain_jump_misses: int
    jump_removed_share: float


def score_access(outcome: Outcome, at: IntArray, plain: BoolArray, jumps: BoolArray, first: int) -> AccessScores:
    """Score a cache from access ``first`` on.

    Parameters
    ----------
    outcome
        What the cache did.
    at
        Array (prefetch,): access after which each was issued.
    plain
        Array (access,): hits of a plain cache of the same size.
    jumps
        Array (access,): which are jumps.
    """
    hit, base, jump = outcome.hit[first:], plain[first:], jumps[first:]
    fate = outcome.fate[at >= first]
    misses, plain_misses = int((~hit).sum()), int((~base).sum())
    used, late = int((fate == USED).sum()), int((fate == LATE).sum())
    jumped, plain_jumped = int((~hit & jump).sum()), int((~base & jump).sum())
    return AccessScores(
        accesses=len(hit),
        misses=misses,
        plain_misses=plain_misses,
        hit_ratio=_share(len(hit) - misses, len(hit)),
        removed_share=1.0 - _share(misses, plain_misses),
        coverage=_share(int((hit & ~base).sum()), plain_misses),
        pollution=_share(int((~hit & base).sum()), plain_misses),
        issued=len(fate),
        used=used,
        precision=_share(used, len(fate)),
        timeliness=_share(used, used + late),
        jumps=int(jump.sum()),
        jump_misses=jumped,
        plain_jump_misses=plain_jumped,
        jump_removed_share=1.0 - _share(jumped, plain_jumped),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float(np.nan)
