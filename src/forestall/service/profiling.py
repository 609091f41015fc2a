"""Beside the loop: takes in what guests say, follows their sequences, and makes a vector of each every so often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from forestall.model.errors import ForestallError, in_one_line
from forestall.model.samples import FloatArray
from forestall.ports.guest_channel import OPERATIONS, SHORT_FIELDS, GuestChannel, GuestWindow
from forestall.ports.vectors import VectorBatch, VectorKind
from forestall.profiling.behaviour import CPU_FIELDS, NAMES, Behaviour
from forestall.profiling.patterns import STATE_FIELDS, Match, Patterns
from forestall.profiling.sequences import HORIZONS, Memory, Position, Sequences, in_words

LOOK_SECONDS, VECTOR_SECONDS = 0.5, 10
TARGETS = ("cpu_cores", "disk_read_bytes_per_s", "disk_write_bytes_per_s", "net_tx_bytes_per_s")
"""What is remembered of what comes after a sequence."""
PATTERN_VECTORS, FORGET_VECTORS = 60, 3 * 8_640
"""After so many vectors patterns that were seen meanwhile are handed on; and a VM that is gone is forgotten."""
PATTERN_SHOWN = ("disk_read_bytes_per_s", "disk_write_bytes_per_s", "net_rx_bytes_per_s", "net_tx_bytes_per_s")
MOST_CONTEXTS, SHOWN_CONTEXTS = 5_000, 12
_CPU = [SHORT_FIELDS.index(name) for name in CPU_FIELDS]
_OTHERS = [SHORT_FIELDS.index(name) for name in TARGETS[1:]]


def targets_of(window: GuestWindow) -> FloatArray:
    """Array (target,) of a window, in the order of :data:`TARGETS`."""
    return np.array([window.values[_CPU].sum(), *window.values[_OTHERS]])


class Profiling:
    """Follows what guests say, in a thread of its own.

    Parameters
    ----------
    channel
        To the guests.
    keep
        Takes vectors.
    group_of
        Name of a VM's trust group; the sequences of one group are known to all of it, and to nobody else.
    now
        The clock that vectors are dated by.
    note
        Takes one line for the operator.
    """

    def __init__(
        self,
        channel: GuestChannel,
        keep: Callable[[VectorBatch], None],
        group_of: Callable[[Sequence[str]], Sequence[str]],
        now: Callable[[], float],
        note: Callable[[str], None],
    ) -> None:
        self._channel, self._keep, self._group_of, self._now, self._note = channel, keep, group_of, now, note
        self._behaviour = Behaviour()
        self._sequences: dict[str, Sequences] = {}
        self._groups: dict[str, Memory] = {}
        self._positions: dict[str, Position] = {}
        self._patterns: dict[str, Patterns] = {}
        self._matches: dict[str, Match] = {}
        self._heard: dict[str, int] = {}
        self._looks = self._vectors = 0
        self._patterns_kept_at = int(now())
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="profiling", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what was seen since the last vector makes one more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self.make_vectors()
            self.keep_patterns()
        except ForestallError as error:
            self._note(f"vectors are not kept: {error}")

    def look(self, windows: Sequence[GuestWindow]) -> None:
        """Take in what guests have said."""
        with self._lock:
            self._behaviour.observe(windows)
            for window in windows:
                if not window.long:
                    follower = self._follower(window.vm_id)
                    self._positions[window.vm_id] = follower.step(window.operations, targets_of(window))

    def make_vectors(self) -> None:
        """Make a vector of each VM that has said something, find the pattern that it is in, and hand vectors on."""
        with self._lock:
            now = int(self._now())
            batch = self._behaviour.vectors(now)
            for vm_id, vector in zip(batch.vm_ids, batch.values, strict=True):
                followed = self._patterns.setdefault(vm_id, Patterns(NAMES))
                self._matches[vm_id] = followed.step(vector, now)
                self._heard[vm_id] = self._vectors
            self._vectors += 1
            self._forget()
            self._regroup()
        if len(batch):
            self._keep(batch)

    def keep_patterns(self) -> None:
        """Hand on the patterns that were seen since they were handed on last."""
        with self._lock:
            until = int(self._now()) + 1
            kept = {vm_id: followed.kept(self._patterns_kept_at) for vm_id, followed in self._patterns.items()}
        owners = tuple(vm_id for vm_id, (at, _) in kept.items() for _ in at)
        if owners:
            at, values = (np.concatenate([pair[part] for pair in kept.values()]) for part in (0, 1))
            self._keep(VectorBatch(VectorKind.PATTERN, (*NAMES, *STATE_FIELDS), owners, at, values))
        self._patterns_kept_at = until

    def sequences(self, vm_id: str) -> Mapping[str, Any] | None:
        """What is known of the sequences of a VM, for people; None where nothing is."""
        with self._lock:
            if (follower := self._sequences.get(vm_id)) is None:
                return None
            rows = []
            for context, seen in follower.own.common(MOST_CONTEXTS):
                recalled = follower.own.recall([context])
                if len(context) > 1 and context[0] == 0 and recalled:  # at the moment at which its last step came
                    rows.append({"after": in_words(context, OPERATIONS), "seen": round(seen), **_outlook(recalled[0])})
            position = self._positions.get(vm_id)
            return {"vm_id": vm_id, "common": rows[:SHOWN_CONTEXTS], "now": _said(position)}

    def patterns(self, vm_id: str) -> Mapping[str, Any] | None:
        """Which pattern a VM is in, and what usually follows, for people; None where nothing is known."""
        with self._lock:
            if (followed := self._patterns.get(vm_id)) is None:
                return None
            at, values = followed.kept(0)
            cpu = [NAMES.index(name) for name in CPU_FIELDS]
            state = {name: values[:, len(NAMES) + place] for place, name in enumerate(STATE_FIELDS)}
            rows = [
                {
                    "number": int(state["pattern_number"][row]),
                    "seen": int(state["pattern_seen"][row]),
                    "last_at": int(at[row]),
                    "seconds": float(state["pattern_steps"][row]) * VECTOR_SECONDS,
                    "cpu_cores": float(values[row, cpu].sum()),
                    **{name: float(values[row, NAMES.index(name)]) for name in PATTERN_SHOWN},
                }
                for row in np.argsort(-state["pattern_seen"])
            ]
            return {"vm_id": vm_id, "patterns": rows, "now": self._matches[vm_id]._asdict()}

    def _follower(self, vm_id: str) -> Sequences:
        if (follower := self._sequences.get(vm_id)) is None:
            follower = self._sequences[vm_id] = Sequences(len(OPERATIONS), len(TARGETS))
            self._regroup()
        return follower

    def _regroup(self) -> None:
        """Let each VM know what its trust group knows: policies may have moved it."""
        vm_ids = list(self._sequences)
        groups = dict(zip(vm_ids, self._group_of(vm_ids), strict=True))
        self._groups = {
            name: self._groups.get(name) or Memory(len(OPERATIONS), len(TARGETS))
            for name in set(groups.values())
            if name
        }
        for vm_id, name in groups.items():
            self._sequences[vm_id].join(self._groups.get(name))

    def _forget(self) -> None:
        """Forget VMs that have said nothing for long."""
        for vm_id in [vm_id for vm_id, heard in self._heard.items() if self._vectors - heard > FORGET_VECTORS]:
            for known in (self._heard, self._sequences, self._positions, self._patterns, self._matches):
                known.pop(vm_id, None)

    def _run(self) -> None:
        every = round(VECTOR_SECONDS / LOOK_SECONDS)
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look(self._channel.windows())
                self._looks += 1
                if self._looks % every == 0:
                    self.make_vectors()
                if self._looks % (every * PATTERN_VECTORS) == 0:
                    self.keep_patterns()
            except Exception as error:  # whatever it is: nobody would begin again
                self._note(f"vectors are not kept: {in_one_line(error)}")


def _outlook(sums: FloatArray) -> dict[str, Any]:
    """What came after a context: cores over half a second and five, and what stood out soon, with its probability."""
    mean = sums[1:] / sums[0]
    soon = mean[len(HORIZONS) * len(TARGETS) :]
    likely = sorted(zip(OPERATIONS, soon.tolist(), strict=True), key=lambda pair: -pair[1])[:3]
    return {
        "cpu_cores_in_half_a_second": round(float(mean[0]), 3),
        "cpu_cores_in_five_seconds": round(float(mean[len(TARGETS)]), 3),
        "soon": {name: round(probability, 2) for name, probability in likely if probability >= 0.05},
    }


def _said(position: Position | None) -> dict[str, Any] | None:
    if position is None or np.isnan(position.expected).any():
        return None
    likely = sorted(zip(OPERATIONS, position.soon.tolist(), strict=True), key=lambda pair: -pair[1])[:3]
    return {
        "expected": dict(zip(TARGETS, position.expected[0].round(4).tolist(), strict=True)),
        "soon": {name: round(probability, 2) for name, probability in likely if probability >= 0.05},
    }
