"""An access trace through Forestall and its peers, and what each is worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forestall.model.errors import WrongUse
from forestall.model.samples import BoolArray, FloatArray
from forestall.replay.access.cache import USED, Outcome, farthest, serve
from forestall.replay.access.peers.base import run_prefetcher
from forestall.replay.access.peers.registry import PEERS
from forestall.replay.access.prefetches import Prefetches
from forestall.replay.access.result import AccessPoint, Calibration
from forestall.replay.access.trace import AccessTrace, item_keys
from forestall.replay.policy_names import FORESTALL, asked_policies
from forestall.replay.result import Variant
from forestall.replay.scores.access import score_access
from forestall.staging.loop import Staged, StagingLoop
from forestall.staging.settings import StagingSettings

BELADY = "belady"
POLICIES = (FORESTALL, *PEERS, BELADY)
AT_ONCE = 1 << 16
STRETCHES = 120
CALIBRATION_BINS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class AccessReplaySettings:
    """What is replayed, and how.

    Attributes
    ----------
    policy
        forestall, a peer, several separated by commas, or all.
    cache_items, arrival_delay, threshold
        As in :class:`~forestall.staging.settings.StagingSettings`.
    history_share
        So much of the trace is not scored.
    seed
        Written into the report; nothing is random.
    """

    policy: str = FORESTALL
    cache_items: int = 1024
    arrival_delay: int = 0
    threshold: float | None = None
    history_share: float = 0.2
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Policies that are replayed; the first one's prefetches are written.

        Raises
        ------
        WrongUse
            One of them is not known.
        """
        return asked_policies(self.policy, POLICIES)

    @property
    def staging(self) -> StagingSettings:
        """How Forestall stages."""
        return StagingSettings(self.cache_items, self.arrival_delay, self.threshold)


@dataclass(frozen=True)
class AccessOutcome:
    """What came of a replay.

    Attributes
    ----------
    prefetches
        Those of the first policy.
    points
        Scores of all.
    first
        Index of the first access that is scored.
    missed
        As in :class:`~forestall.replay.access.result.AccessResult`.
    calibration
        Of Forestall.
    accesses_per_s, model_bytes
        Speed and size of the staging loop.
    """

    prefetches: Prefetches
    points: tuple[AccessPoint, ...]
    first: int
    missed: dict[str, FloatArray]
    calibration: Calibration | None
    accesses_per_s: float
    model_bytes: int


class AccessReplay:
    """One replay: what all policies are given, and what is gathered of them."""

    def __init__(self, trace: AccessTrace, settings: AccessReplaySettings, tick: Tick) -> None:
        self._trace, self._settings, self._tick = trace, settings, tick
        self._first = int(settings.history_share * len(trace))
        self._jumps = trace.jumps
        self._nothing = nothing_fetched()
        self._plain = self._serve(self._nothing).hit
        self._points: list[AccessPoint] = []
        self._missed: dict[str, FloatArray] = {"plain cache": self._in_stretches(self._plain)}
        self._calibration: Calibration | None = None
        self._speed, self._bytes = float("nan"), 0

    def run(self) -> AccessOutcome:
        """Replay every policy that is asked for."""
        names = self._settings.names
        fetched = [self._policy(name) for name in names]
        return AccessOutcome(
            fetched[0], tuple(self._points), self._first, self._missed, self._calibration, self._speed, self._bytes
        )

    def _policy(self, name: str) -> Prefetches:
        """Replay a policy; what it fetched as shipped."""
        if name == FORESTALL:
            return self._forestall()
        if name == BELADY:
            hit = farthest(self._trace.item, self._settings.cache_items)
            self._add(name, Variant.ORACLE, "", self._nothing, Outcome(hit, np.zeros(0, np.int8)))
            return self._nothing
        return self._peer(name)

    def _forestall(self) -> Prefetches:
        trace, loop = self._trace, StagingLoop(self._settings.staging)
        loop.warm_up()
        parts, spent = [], 0.0
        for start in range(0, len(trace), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            began = time.perf_counter()
            staged = loop.take_in(trace.stream[part], trace.space[part], trace.resource[part])
            spent += time.perf_counter() - began
            parts.append(staged._replace(access=staged.access + start))
            self._tick(FORESTALL, len(trace.stream[part]), len(trace))
        self._speed, self._bytes = len(trace) / max(spent, 1e-9), loop.memory_bytes
        staged = Staged(*map(np.concatenate, zip(*parts, strict=True)))
        fetched = Prefetches(staged.access, staged.space, staged.number, staged.probability.astype(np.float32))
        outcome = self._serve(fetched)
        self._calibration = _calibration(fetched, outcome, self._first)
        self._add(FORESTALL, Variant.FORESTALL, "", fetched, outcome)
        return fetched

    def _peer(self, name: str) -> Prefetches:
        """A peer as shipped, and over its knobs where policies are compared."""
        peer, asked = PEERS[name], self._settings
        label_of = {factory: label for label, factory in peer.knobs}
        others = [factory for _, factory in peer.knobs if factory is not peer.shipped] if len(asked.names) > 1 else []
        shipped: Prefetches | None = None
        for factory in (peer.shipped, *others):
            made = factory(asked.arrival_delay)
            fetched = run_prefetcher(self._trace, made, asked.cache_items, asked.arrival_delay)
            variant = Variant.SHIPPED if shipped is None else Variant.TUNED
            self._add(name, variant, label_of[factory], fetched, self._serve(fetched))
            self._tick(name, 1, 1 + len(others))
            shipped = fetched if shipped is None else shipped
        assert shipped is not None
        return shipped

    def _serve(self, fetched: Prefetches) -> Outcome:
        wanted, sequence = items_of(self._trace, fetched), self._trace.sequence
        after = np.searchsorted(sequence, sequence[fetched.at], side="right") - 1  # helps later numbers only
        asked = self._settings
        return serve(self._trace.item, asked.cache_items, after, wanted, asked.arrival_delay)

    def _add(self, name: str, variant: Variant, knob: str, fetched: Prefetches, outcome: Outcome) -> None:
        scores = score_access(outcome, fetched.at, self._plain, self._jumps, self._first)
        self._points.append(AccessPoint(name, variant, knob, scores))
        if variant is not Variant.TUNED and (name in (FORESTALL, BELADY) or len(self._points) == 1):
            self._missed[name] = self._in_stretches(outcome.hit)

    def _in_stretches(self, hit: BoolArray) -> FloatArray:
        """Share of misses in stretches of the scored part; array (stretch,)."""
        scored = ~hit[self._first :]
        if not len(scored):
            return np.zeros(0)
        return np.array([part.mean() for part in np.array_split(scored, min(STRETCHES, len(scored)))])


def replay_access(trace: AccessTrace, settings: AccessReplaySettings, tick: Tick) -> AccessOutcome:
    """Replay the staging loop on accesses, and every peer that is asked for.

    Raises
    ------
    WrongUse
        A policy is not known, or a setting is out of range.
    """
    if not 0 <= settings.history_share < 1:
        raise WrongUse(f"a history of {settings.history_share:g} of the trace: must be from 0 to below 1")
    settings.staging  # noqa: B018  (checked before anything runs)
    return AccessReplay(trace, settings, tick).run()


def nothing_fetched() -> Prefetches:
    """No prefetches."""
    return Prefetches(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float32))


def items_of(trace: AccessTrace, fetched: Prefetches) -> NDArray[np.int32]:
    """Number of each prefetched item (prefetch,), as in the trace; what never occurs there has numbers above."""
    space = np.concatenate([trace.space, fetched.space])
    resource = np.concatenate([trace.resource, fetched.resource])
    code, _ = pd.factorize(item_keys(space, resource))
    return np.asarray(code[len(trace) :], np.int32)


def _calibration(fetched: Prefetches, outcome: Outcome, first: int) -> Calibration | None:
    """Compare what was stated with what became of it, in bins of probability."""
    scored = fetched.at >= first
    stated, used = fetched.probability[scored], outcome.fate[scored] == USED
    place = np.digitize(stated, CALIBRATION_BINS[1:-1])
    rows = [(float(stated[mine].mean()), float(used[mine].mean()), int(mine.sum()))
            for k in range(len(CALIBRATION_BINS) - 1) if (mine := place == k).any()]  # fmt: skip
    return Calibration(*map(tuple, zip(*rows, strict=True))) if rows else None
