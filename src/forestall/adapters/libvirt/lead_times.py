"""How long each means of moving a resource takes, measured as it is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Protocol

ASSUMED_SECONDS: Mapping[str, float] = {
    "quota": 0.005,
    "vcpu": 2.0,
    "balloon": 1.0,
    "virtio-mem": 2.0,
    "iotune": 0.005,
    "tc": 0.05,
}
"""Until the first move was measured: what they took on the machine that this was written on."""
_KEPT = 31


class Memory(Protocol):
    """Keeps times from one process to the next; whatever goes wrong with that is its own business."""

    def read(self) -> Mapping[str, Sequence[float]]:
        """Times of each means, seconds, oldest first; nothing where none were kept."""
        ...

    def write(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Keep these, and no others."""
        ...


class LeadTimes:
    """The median of each means' last times.

    Parameters
    ----------
    memory
        Where they come from, and where :meth:`keep` puts them; None: nowhere.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory, self._new = memory, False
        kept = memory.read() if memory else {}
        self._seconds = {means: deque(times, maxlen=_KEPT) for means, times in kept.items() if times}

    def note(self, means: str, seconds: float) -> None:
        """A move took effect after so long."""
        self._seconds.setdefault(means, deque(maxlen=_KEPT)).append(max(seconds, 0.0))
        self._new = True

    def keep(self) -> None:
        """Put what was measured into the memory, if anything was since the last call."""
        if self._memory and self._new:
            self._memory.write({means: list(seconds) for means, seconds in self._seconds.items()})
        self._new = False

    def seconds(self, means: str) -> float:
        """How long a move is expected to take."""
        measured = self._seconds.get(means)
        return median(measured) if measured else ASSUMED_SECONDS[means]

    def measured(self) -> Mapping[str, float]:
        """Median of every means that was used."""
        return {means: median(seconds) for means, seconds in self._seconds.items()}
