"""What operations follow each other in a guest, and what comes after: common sequences, found while they happen.

A window of 100 ms is a *step*: what stands out in it, which is operations of a larger class than is usual for this
guest, or rare ones. Steps in which nothing stands out are quiet. A *context* is the last one, two or three steps that
were not quiet, and how long ago the last of them was (in doublings): the position in a sequence. Contexts that are
common (lossy counting with forgetting, so that memory is bounded) remember what came after them: the mean of each
target over the next half second and the next five, and how often each operation stood out within half a second.
A longer context counts as far as it has been seen often, the shorter one for the rest; where the guest itself knows
too little, its trust group does. Beside that, what comes back at regular intervals, whatever happens in between, has a
rhythm (:mod:`~forestall.profiling.rhythm`).

Sources: Veloso et al., *Interconnect bypass fraud detection*, 2020 (lossy counting with forgetting); Begleiter et
al., *On prediction using variable order Markov models*, JAIR 2004.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from river.sketch import HeavyHitters

from forestall.model.samples import FloatArray
from forestall.profiling.rhythm import Rhythm

ORDERS = 3
HORIZONS = (5, 50)
"""Windows over which what comes after is remembered: half a second, five seconds."""
QUIET = ()
SHARE, FORGETTING = 0.0005, 0.998
LEAST_COUNT = 2.0
USUAL_RATE, RARE_RATIO = 0.01, 0.05
STANDS_OUT = 0.7
MOST_IN_STEP, LONGEST_WAIT = 2, 10
KEPT_COUNT = 400.0
PRIOR_COUNT = 4.0
Step = tuple[int, ...]
Context = tuple[object, ...]


class Position(NamedTuple):
    """Where a guest is in the sequences that it knows, and what followed there before.

    Attributes
    ----------
    expected
        Array (horizon, target): mean of each target over each of :data:`HORIZONS`; NaN while nothing is known.
    soon
        Array (operation,): probability that it stands out within the first horizon.
    known
        How often the longest known context was seen (weighted), and how long it is.
    ago
        Array (operation,): how many windows ago it stood out last, in doublings; at most :data:`LONGEST_WAIT`.
    echo
        Array (horizon, operation): share of the windows of each of :data:`~forestall.profiling.rhythm.ECHOES` in which
        it stands out, as its rhythm says; NaN for those that have none.
    """

    expected: FloatArray
    soon: FloatArray
    known: tuple[float, int]
    ago: FloatArray
    echo: FloatArray


class Memory:
    """What came after each context.

    Parameters
    ----------
    operations, targets
        How many there are of each.
    """

    def __init__(self, operations: int, targets: int) -> None:
        self._counted = HeavyHitters(SHARE, SHARE, FORGETTING)
        self._rows: dict[Context, int] = {}
        self._free: list[int] = []
        self._targets = targets
        width = 1 + len(HORIZONS) * targets + operations
        self._sums: FloatArray = np.zeros((64, width))

    def __len__(self) -> int:
        """Contexts that are remembered."""
        return len(self._rows)

    def see(self, contexts: Sequence[Context]) -> None:
        """Count contexts, and make room for those that are common."""
        for context in contexts:
            self._counted.update(context)
            if context not in self._rows and self._counted[context] >= LEAST_COUNT:
                self._rows[context] = self._row()

    def learn(self, contexts: Sequence[Context], after: FloatArray) -> None:
        """Remember what came after contexts: one, means, and what stood out, as a row to be added."""
        rows = [row for row in map(self._rows.get, contexts) if row is not None]
        if rows:
            sums = self._sums[rows]
            sums *= np.where(sums[:, :1] >= KEPT_COUNT, 1.0 - 1.0 / KEPT_COUNT, 1.0)
            self._sums[rows] = sums + after

    def recall(self, contexts: Sequence[Context]) -> list[FloatArray]:
        """Sums of those of the contexts (the shortest first) that are remembered and were followed by something."""
        rows = [row for row in map(self._rows.get, contexts) if row is not None]
        return [sums for sums in self._sums[rows] if sums[0] > 0.0]

    def common(self, count: int) -> list[tuple[Context, float]]:
        """The most common contexts, and how often they were seen (weighted)."""
        return [(context, float(seen)) for context, seen in self._counted.most_common(count)]  # type: ignore[misc]

    def _row(self) -> int:
        """A row for one context more; those of contexts that are common no longer are given back first."""
        used = len(self._rows)
        if not self._free and used >= len(self._sums):
            gone = [context for context in self._rows if self._counted[context] == 0.0]
            self._free = [self._rows.pop(context) for context in gone]
            self._sums[self._free] = 0.0
            if not self._free:
                self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        if self._free:
            return self._free.pop()
        return used


class Sequences:
    """Follows one guest.

    Parameters
    ----------
    operations, targets
        How many there are of each; what targets are is the caller's.
    group
        What is known in its trust group, shared with the others of it; None: nothing.
    """

    def __init__(self, operations: int, targets: int, group: Memory | None = None) -> None:
        self._operations, self._targets = operations, targets
        self.own = Memory(operations, targets)
        self._group = group
        self._usual: FloatArray = np.zeros(operations)
        self._often: FloatArray = np.zeros(operations)
        self._windows = 0
        self._steps: deque[Step] = deque(maxlen=ORDERS)
        self._since = 0
        self._ago: FloatArray = np.full(operations, float(1 << LONGEST_WAIT))
        self._past: deque[tuple[list[Context], FloatArray, FloatArray]] = deque()
        self._rhythm = Rhythm(operations)

    def step(self, operations: Sequence[tuple[int, int]], targets: FloatArray) -> Position:
        """See one window: its (operation, class) pairs and its targets (target,); NaN counts as nought."""
        classes = np.zeros(self._operations)
        for kind, size in operations:
            classes[kind] = max(size, 1)
        stands_out = self._what_stands_out(classes)
        order = np.argsort(self._usual - classes)
        step: Step = tuple(
            sorted(kind for kind in order[: 2 * MOST_IN_STEP].tolist() if stands_out[kind])[:MOST_IN_STEP]
        )
        if step != QUIET:
            self._since = 0
            self._steps.append(step)
        else:
            self._since = min(self._since + 1, 1 << LONGEST_WAIT)
        self._ago = np.where(stands_out > 0, 0.0, np.minimum(self._ago + 1.0, 1 << LONGEST_WAIT))
        contexts = self._contexts()
        self._remember(contexts, np.nan_to_num(targets), stands_out)
        for memory in self._memories():
            memory.see(contexts)
        return self._position(contexts, self._rhythm.step(stands_out))

    def join(self, group: Memory | None) -> None:
        """Belong to a trust group from now on; what is known of the guest itself stays."""
        self._group = group

    def _memories(self) -> list[Memory]:
        return [self.own] if self._group is None else [self._group, self.own]

    def _what_stands_out(self, classes: FloatArray) -> FloatArray:
        """Operations that are rare, or of a larger class than usual, as noughts and ones; then the usual is learned."""
        rate = max(USUAL_RATE, 1.0 / (self._windows + 1))
        done = classes > 0
        larger = done & (classes > self._usual + STANDS_OUT)
        rare = done & (self._often < RARE_RATIO)
        self._usual += rate * (classes - self._usual)
        self._often += rate * (done - self._often)
        self._windows += 1
        return (larger | rare).astype(np.float64)

    def _contexts(self) -> list[Context]:
        """The shortest first: how long it has been quiet, then with one step before that, with two, with three."""
        wait = self._since.bit_length()
        steps = tuple(self._steps)
        return [(wait,), *((wait, *steps[-order:]) for order in range(1, len(steps) + 1))]

    def _remember(self, contexts: list[Context], targets: FloatArray, stands_out: FloatArray) -> None:
        """Let those contexts learn for which the longest horizon is over now."""
        self._past.append((contexts, targets, stands_out))
        if len(self._past) <= HORIZONS[-1]:
            return
        followed = np.array([past[1] for past in self._past])[1:]
        means = np.concatenate([followed[:horizon].mean(axis=0) for horizon in HORIZONS])
        soon = np.array([past[2] for past in list(self._past)[1 : HORIZONS[0] + 1]]).max(axis=0)
        after = np.concatenate([[1.0], means, soon])
        earlier = self._past.popleft()[0]
        for memory in self._memories():
            memory.learn(earlier, after)

    def _position(self, contexts: list[Context], echo: FloatArray) -> Position:
        """Mix what the memories know, from what is general to what is special."""
        size = len(HORIZONS) * self._targets
        mixed: FloatArray | None = None
        known = (0.0, 0)
        for memory in self._memories():
            recalled = memory.recall(contexts)
            for sums in recalled:
                mean = sums[1:] / sums[0]
                trust = sums[0] / (sums[0] + PRIOR_COUNT)
                mixed = mean if mixed is None else trust * mean + (1.0 - trust) * mixed
            if recalled and memory is self.own:
                known = (float(recalled[-1][0]), len(recalled) - 1)
        shape, ago = (len(HORIZONS), self._targets), np.log2(1.0 + self._ago)
        if mixed is None:
            return Position(np.full(shape, np.nan), np.zeros(self._operations), known, ago, echo)
        return Position(mixed[:size].reshape(shape), mixed[size:], known, ago, echo)


def in_words(context: Context, names: Sequence[str]) -> str:
    """A context for people: ``fork, disk-write; then quiet for 0.4 s``."""
    wait, *steps = context
    parts = [" with ".join(names[kind] for kind in step) for step in steps]  # type: ignore[attr-defined]
    quiet = int(wait)  # type: ignore[call-overload]
    if quiet:
        parts.append(f"quiet for {(1 << (quiet - 1)) / 10:g} s")
    return ", then ".join(parts) or "nothing"
