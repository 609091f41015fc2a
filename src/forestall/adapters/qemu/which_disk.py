"""Which disk of a VM is behind a back end that QEMU's trace names by an address only: the one that counts the same.

QEMU counts the bytes that the guest has read and written of each disk; the trace shows the same bytes, of each back
end. Who has the same counts is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from forestall.adapters.qemu.trace_log import Traced
from forestall.model.samples import FloatArray

LEAST_BYTES = 256 << 10
"""Nothing is concluded from less."""
NEAR, FAR = 0.2, 0.5
"""Shares by which counts of the same disk may differ, while requests are on their way, and those of others must."""
SOON_SECONDS, LATE_SECONDS = 0.1, 60.0
"""Compared so soon after the last time; who fits none is compared less and less often."""

Counts = tuple[int, int]
"""Bytes read and written."""


@dataclass
class WhichDisk:
    """Learns it by and by.

    Attributes
    ----------
    begin
        What QEMU had counted for each disk when the trace began.
    found
        Disk of each back end that is known; that does not change as long as the VM has its disks.
    """

    begin: Mapping[str, Counts]
    found: dict[int, str] = field(default_factory=dict)
    _seen: dict[int, FloatArray] = field(default_factory=dict)
    _due_at: float = 0.0
    _pause_seconds: float = SOON_SECONDS

    def take_in(self, traced: Traced) -> None:
        """Count what the trace shows of back ends that are not known."""
        for backend in set(traced.backend.tolist()) - self.found.keys():
            own = traced.backend == backend
            seen = self._seen.setdefault(backend, np.zeros(2))
            seen += [traced.size_bytes[own & ~traced.write].sum(), traced.size_bytes[own & traced.write].sum()]

    def is_due(self, now: float) -> bool:
        """Whether counts are to be compared: there is a back end with enough requests of which nothing is known."""
        return now >= self._due_at and any(
            sum(seen) >= LEAST_BYTES for backend, seen in self._seen.items() if backend not in self.found
        )

    def compare(self, counted: Mapping[str, Counts], now: float) -> None:
        """Find disks by what QEMU has counted by now; what fits none, or several, is left open."""
        since = {disk: np.subtract(counts, self.begin[disk]) for disk, counts in counted.items() if disk in self.begin}
        before = len(self.found)
        for backend, seen in self._seen.items():
            if backend in self.found or sum(seen) < LEAST_BYTES or not since:
                continue
            apart = {disk: float(np.abs(counts - seen).sum() / sum(seen)) for disk, counts in since.items()}
            nearest, *others = sorted(apart, key=apart.__getitem__)
            if apart[nearest] <= NEAR and all(apart[other] >= FAR for other in others):
                self.found[backend] = nearest
        found_one = len(self.found) > before
        self._pause_seconds = SOON_SECONDS if found_one else min(2.0 * self._pause_seconds, LATE_SECONDS)
        self._due_at = now + self._pause_seconds
