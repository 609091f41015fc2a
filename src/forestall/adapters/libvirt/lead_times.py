"""How long each means of moving a resource takes, measured as it is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median

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


class LeadTimes:
    """The median of each means' last times."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}

    def note(self, means: str, seconds: float) -> None:
        """A move took effect after so long."""
        self._seconds.setdefault(means, deque(maxlen=_KEPT)).append(max(seconds, 0.0))

    def seconds(self, means: str) -> float:
        """How long a move is expected to take."""
        measured = self._seconds.get(means)
        return median(measured) if measured else ASSUMED_SECONDS[means]

    def measured(self) -> Mapping[str, float]:
        """Median of every means that was used."""
        return {means: median(seconds) for means, seconds in self._seconds.items()}
