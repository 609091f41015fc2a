"""Patterns of a VM's behaviour: what it does again and again, kept as vectors, and which of them it does now.

Vectors of behaviour are grouped as they come (sequential leader clustering): one that is near a pattern belongs to it
and moves it a little, one that is near none is the first of a new one. Amounts are compared by their logarithm, and
features in deviations of their own, so that none counts for more because it is large or moves much. Which pattern
follows which, and after how long, is counted.

Source: Hartigan, *Clustering Algorithms*, 1975, 3.2 (the leader algorithm).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from forestall.model.samples import BoolArray, Float32Array, FloatArray, IntArray

MOST_PATTERNS = 24
NEAR, FAR = 1.0, 3.0
"""Root mean square distance, in deviations, of what belongs to a pattern; and what one feature adds at most."""
RATE, LEAST_DEVIATION = 0.02, 0.1
KEPT_COUNT = 200.0
STATE_FIELDS = ("pattern_number", "pattern_seen", "pattern_steps")
"""What is kept of a pattern beside its features: its number, how often it was seen, how long it lasts in the mean."""


class Match(NamedTuple):
    """The pattern that a VM is in.

    Attributes
    ----------
    number
        Of the pattern: 1 is the first that this VM ever had.
    distance
        From it, in deviations (root mean square).
    seen
        How many vectors belonged to it before.
    steps
        For how many vectors the VM has been in it.
    usual_steps
        How long it lasted before, in the mean; NaN before it first ended.
    following
        Numbers of the patterns that followed, with their probabilities, the likeliest first.
    """

    number: int
    distance: float
    seen: int
    steps: int
    usual_steps: float
    following: tuple[tuple[int, float], ...]


class Patterns:
    """Follows one VM.

    Parameters
    ----------
    names
        Of the features; those that are rates or bytes are taken by their logarithm.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._logarithm: BoolArray = np.array([name.endswith(("_per_s", "_bytes")) for name in names])
        features = len(names)
        self._mean: FloatArray = np.zeros(features)
        self._square: FloatArray = np.zeros(features)
        self._known: FloatArray = np.zeros(features)
        self._centre: FloatArray = np.zeros((0, features))
        self._last: Float32Array = np.zeros((0, features), np.float32)
        self._number: IntArray = np.zeros(0, np.int64)
        self._seen: FloatArray = np.zeros(0)
        self._last_at: IntArray = np.zeros(0, np.int64)
        self._lasted: FloatArray = np.zeros((2, 0))
        self._followed: FloatArray = np.zeros((0, 0))
        self._next, self._now, self._steps = 1, -1, 0

    def __len__(self) -> int:
        """Patterns that are known."""
        return len(self._number)

    def step(self, vector: Float32Array, at: int) -> Match:
        """See a vector (feature,) of the instant ``at``; NaN features do not count."""
        value = np.where(self._logarithm, np.log1p(np.maximum(vector, 0.0)), vector).astype(np.float64)
        distance = self._distances(value)
        near = np.flatnonzero(distance <= NEAR)
        self._learn_scale(value)
        # Of several that are near the one that was seen most: those that were told apart while little was known of
        # how much features move are not seen again, and make room in time.
        place = int(near[self._seen[near].argmax()]) if len(near) else self._begin(value)
        nearest = float(distance[place]) if len(near) else 0.0
        seen = self._seen[place]
        known = np.isfinite(value)
        rate = 1.0 / min(seen + 1.0, KEPT_COUNT)
        centre = np.where(np.isfinite(self._centre[place]), self._centre[place], value)
        self._centre[place] = np.where(known, centre + rate * (value - centre), centre)
        self._seen[place] += 1.0
        self._last[place], self._last_at[place] = vector, at
        self._move_on(place)
        return self._match(place, nearest, int(seen))

    def kept(self, since: int) -> tuple[IntArray, Float32Array]:
        """Patterns that were seen at ``since`` or later: when last (pattern,), and the vectors that were (pattern,
        feature), with :data:`STATE_FIELDS` behind the features."""
        chosen = np.flatnonzero(self._last_at >= since)
        with np.errstate(invalid="ignore", divide="ignore"):
            steps = self._lasted[1] / self._lasted[0]
        state = np.stack([self._number, self._seen, steps], axis=1)[chosen]
        return self._last_at[chosen], np.concatenate([self._last[chosen], state], axis=1).astype(np.float32)

    def _distances(self, value: FloatArray) -> FloatArray:
        """Distance from each pattern (pattern,), over the features that both know and that move at all."""
        variance = self._square - self._mean**2
        difference = np.abs(self._centre - value) / np.sqrt(np.maximum(variance, LEAST_DEVIATION**2))
        counts = np.isfinite(difference) & ((variance > LEAST_DEVIATION**2) | (difference > 1.0))
        capped = np.where(counts, np.minimum(difference, FAR), 0.0)
        return np.asarray(np.sqrt((capped**2).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)))

    def _learn_scale(self, value: FloatArray) -> None:
        known = np.isfinite(value)
        self._known += known
        rate = np.where(known, np.maximum(RATE, 1.0 / np.maximum(self._known, 1.0)), 0.0)
        filled = np.where(known, value, 0.0)
        self._mean += rate * (filled - self._mean)
        self._square += rate * (filled**2 - self._square)

    def _begin(self, value: FloatArray) -> int:
        """Make a pattern; if there are too many the one that was seen least lately makes room."""
        if len(self) >= MOST_PATTERNS:
            place = self._least()
            self._centre[place], self._seen[place], self._lasted[:, place] = value, 0.0, 0.0
            self._followed[place], self._followed[:, place] = 0.0, 0.0
            self._number[place] = self._next
        else:
            place = len(self)
            self._centre = np.concatenate([self._centre, value[None]])
            self._last = np.concatenate([self._last, np.zeros((1, len(value)), np.float32)])
            self._number = np.append(self._number, self._next)
            self._seen, self._last_at = np.append(self._seen, 0.0), np.append(self._last_at, 0)
            self._lasted = np.pad(self._lasted, ((0, 0), (0, 1)))
            self._followed = np.pad(self._followed, ((0, 1), (0, 1)))
        self._next += 1
        return place

    def _least(self) -> int:
        """The pattern that was seen least often, of those the longest ago; not the one that the VM is in."""
        order = np.lexsort((self._last_at, self._seen))
        return int(order[0] if order[0] != self._now else order[1])

    def _move_on(self, place: int) -> None:
        """Count that the VM stays, or goes from one pattern to the next."""
        if place == self._now:
            self._steps += 1
            return
        if self._now >= 0:
            self._lasted[:, self._now] += (1.0, self._steps)
            self._followed[self._now, place] += 1.0
        self._now, self._steps = place, 1

    def _match(self, place: int, distance: float, seen: int) -> Match:
        times, steps = self._lasted[:, place]
        followed = self._followed[place]
        total = followed.sum()
        order = np.argsort(-followed)[: np.count_nonzero(followed)]
        following = tuple((int(self._number[k]), float(followed[k] / total)) for k in order)
        usual = float(steps / times) if times else float("nan")
        return Match(int(self._number[place]), distance, seen, self._steps, usual, following)
