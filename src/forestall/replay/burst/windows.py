"""A burst trace cut into decision windows, and what one policy grants in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.errors import WrongUse
from forestall.model.samples import FloatArray, IntArray
from forestall.replay.burst.trace import BurstTrace


@dataclass(frozen=True)
class Windows:
    """Use as decisions see it; a series is a VM, or the pool of all VMs.

    Attributes
    ----------
    use
        Array (decision, window, series), cores: the whole decision windows of the trace.
    cores
        What the host has.
    first
        Decision from which on is scored; what lies before is history.
    """

    use: FloatArray
    cores: float
    first: int

    @property
    def peak(self) -> FloatArray:
        """Highest use (decision, series) within each decision window."""
        peak: FloatArray = self.use.max(axis=1)
        return peak


def windows_in(trace: BurstTrace, window_ms: int) -> int:
    """How many windows of the trace a decision is for.

    Raises
    ------
    WrongUse
        It is not a whole number.
    """
    count, rest = divmod(window_ms * 1000, trace.window_us)
    if rest or not count:
        raise WrongUse(
            f"--window-ms {window_ms}: not a multiple of the trace's windows of {trace.window_us / 1000:g} ms"
        )
    return count


def cut(trace: BurstTrace, per_decision: int, cores: float, history_us: int, *, pooled: bool) -> Windows:
    """Cut a trace into decision windows, from its first window on."""
    use = trace.known
    if pooled:
        # One VM after the other: with those that come later left out, not a bit of the sum is another.
        use = np.cumsum(use, axis=1)[:, -1:]
    whole = len(use) // per_decision
    first = min(decisions_in(trace, per_decision, history_us), whole)
    return Windows(use[: whole * per_decision].reshape(whole, per_decision, use.shape[1]), cores, first)


def decisions_in(trace: BurstTrace, per_decision: int, history_us: int) -> int:
    """How many decision windows begin within the history."""
    return -(-history_us // (per_decision * trace.window_us))


def known_vms(trace: BurstTrace, per_decision: int) -> IntArray:
    """How many VMs (decision,) are known when each window, and the one after the last whole one, is decided on.

    Those are the VMs that had a row before; when the first window is decided on, those that begin with it.
    """
    at = np.arange(trace.windows // per_decision + 1) * per_decision
    at[0] = 1
    return np.searchsorted(trace.first, at)
