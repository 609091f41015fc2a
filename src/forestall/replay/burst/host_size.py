"""How many cores a host is taken to have.

A trace does not say. Where nobody else does, a host has as many cores as VMs that the trace begins with; or, once the
history has ended, what they used at most together in it, rounded up, if that is more. Only what is known by then
counts, so cutting a trace changes nothing that was decided before. Too many cores do little harm, of too few nobody can
reserve enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from forestall.replay.burst.trace import BurstTrace
from forestall.replay.burst.windows import decisions_in


@dataclass(frozen=True)
class HostSize:
    """Cores of a host.

    Attributes
    ----------
    early
        What counts before the decision ``since``.
    cores
        What counts from then on.
    since
        Decision window that begins when the history has ended; 0 where the size was said.
    """

    early: float
    cores: float
    since: int

    @property
    def changes(self) -> bool:
        """Whether the size in the history is another."""
        return self.since > 0 and self.early != self.cores


def host_size(trace: BurstTrace, per_decision: int, history_us: int, said: float | None) -> HostSize:
    """The size that was said, or the one that the trace needs."""
    if said is not None:
        return HostSize(said, said, 0)
    early = float((trace.first == 0).sum())
    since = decisions_in(trace, per_decision, history_us)
    if not since or trace.windows < since * per_decision:
        return HostSize(early, early, since)
    history = trace.head(since * per_decision).known
    return HostSize(early, max(float(math.ceil(history.sum(axis=1).max())), early), since)


def size_notes(trace: BurstTrace, size: HostSize, said: float | None, history_seconds: float) -> list[str]:
    """What to say of a size: where it is from, and whether it is too small."""
    lines = []
    if said is None:
        lines.append(f"note: --cores is not given: a host of {size.early:g}, as many as VMs at the start")
    if size.changes:
        lines.append(f"note: after the first {history_seconds:g} s a host of {size.cores:g}: its VMs used more in them")
    highest = float(np.max(trace.known.sum(axis=1)))
    if highest > size.cores:
        lines.append(
            f"warning: the VMs used up to {highest:.3g} cores together, more than the host's {size.cores:g}: "
            "what is above cannot be reserved"
        )
    return lines
