"""Which disk of a VM is behind a back end that QEMU's trace names by an address only: the one that counts the same.

QEMU counts the bytes that the guest has read and written of each disk; the trace shows the same bytes, of each back
end. Who has the same counts is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from forestall.adapters.qemu.trace_log import Traced

LEAST_BYTES = 256 << 10
"""Nothing is concluded from less."""
NEAR, FAR = 0.2, 0.5
"""Shares by which counts of the same disk may differ, while requests are on their way, and those of others must."""

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
        Disk of each back end that is known; that does not change as long as the VM lives.
    """

    begin: Mapping[str, Counts]
    found: dict[int, str] = field(default_factory=dict)
    _seen: dict[int, np.ndarray] = field(default_factory=dict)

    def take_in(self, traced: Traced) -> None:
        """Count what the trace shows."""
        for backend in set(traced.backend.tolist()) - self.found.keys():
            own = traced.backend == backend
            seen = self._seen.setdefault(backend, np.zeros(2))
            seen += [traced.size_bytes[own & ~traced.write].sum(), traced.size_bytes[own & traced.write].sum()]

    @property
    def is_open(self) -> bool:
        """Whether there is a back end with enough requests of which nothing is known."""
        return any(sum(seen) >= LEAST_BYTES for backend, seen in self._seen.items() if backend not in self.found)

    def compare(self, now: Mapping[str, Counts]) -> None:
        """Find disks by what QEMU has counted by now; what fits several is left open."""
        if len(self.begin) == 1:
            self.found = dict.fromkeys(self._seen, next(iter(self.begin)))
            return
        since = {disk: np.subtract(counts, self.begin[disk]) for disk, counts in now.items() if disk in self.begin}
        for backend, seen in self._seen.items():
            if backend in self.found or sum(seen) < LEAST_BYTES:
                continue
            apart = {disk: np.abs(counts - seen).sum() / sum(seen) for disk, counts in since.items()}
            nearest, *others = sorted(apart, key=apart.__getitem__)
            if apart[nearest] <= NEAR and all(apart[other] >= FAR for other in others):
                self.found[backend] = nearest
