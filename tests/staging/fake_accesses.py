"""Made-up accesses, and a plain model of a cache to compare with."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from forestall.staging.loop import Staged, StagingLoop
from forestall.staging.settings import StagingSettings

Ints = NDArray[np.int64]
SMALL = {"history": 1 << 14, "least_slots": 1 << 12}
"""Little memory, for tests that make many loops."""


def scrambled(rng: np.random.Generator, count: int) -> Ints:
    """So many different numbers without any order."""
    return rng.choice(1 << 40, count, replace=False)


def looping(rng: np.random.Generator, accesses: int, loop: int, noise: float = 0.0) -> Ints:
    """A program that uses the same scrambled items in the same order again and again, with others between."""
    items = scrambled(rng, loop)
    used = np.tile(items, accesses // loop + 1)[:accesses]
    other = rng.random(accesses) < noise
    used[other] = rng.integers(1 << 41, 1 << 42, int(other.sum()))
    return used


def runs(rng: np.random.Generator, accesses: int, length: int = 32, step: int = 1) -> Ints:
    """Runs of neighbours at places that never come again."""
    starts = rng.integers(0, 1 << 40, accesses // length + 1)
    return (starts[:, None] + step * np.arange(length)).ravel()[:accesses]


def staged(number: Ints, settings: StagingSettings, stream: Ints | None = None, space: Ints | None = None) -> Staged:
    """What a new loop stages along some accesses, of one stream if nothing else is said."""
    nothing = np.zeros(len(number), np.int32)
    stream, space = (nothing if s is None else s.astype(np.int32) for s in (stream, space))
    return StagingLoop(settings).take_in(stream, space, number)


def misses(number: Ints, capacity: int, asked: Staged | None = None, delay: int = 0) -> NDArray[np.bool_]:
    """Which accesses miss in a cache into which what was asked for comes; the plain way."""
    cache: OrderedDict[int, None] = OrderedDict()

    def put(key: int) -> None:
        cache[key] = None
        cache.move_to_end(key)
        if len(cache) > capacity:
            cache.popitem(last=False)

    at = asked.access.tolist() if asked else []
    wanted = asked.number.tolist() if asked else []
    missed, arrived = np.zeros(len(number), np.bool_), 0
    for i, key in enumerate(number.tolist()):
        while arrived < len(at) and at[arrived] + delay < i:
            if wanted[arrived] not in cache:
                put(wanted[arrived])
            arrived += 1
        missed[i] = key not in cache
        put(key)
    return missed


def removed(number: Ints, capacity: int, delay: int = 0, first: int = 0, **more: float) -> float:
    """Share of a plain cache's misses that is gone from access ``first`` on."""
    settings = StagingSettings(capacity, delay, **SMALL, **more)  # type: ignore[arg-type]
    asked = staged(number, settings)
    ours, plain = misses(number, capacity, asked, delay)[first:], misses(number, capacity)[first:]
    return 1.0 - float(ours.sum() / plain.sum())
