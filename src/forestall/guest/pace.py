"""How often the agent looks, so that what it costs stays within what it may cost."""

from __future__ import annotations

SHORT_SECONDS, LONGEST_SECONDS = 0.1, 1.0
CPU_BUDGET_RATIO = 0.01
SMOOTHING = 0.2
PATIENCE_SECONDS = 10


class Pace:
    """Stretches the short windows while the agent costs more than its budget, and shortens them again.

    First the look at processes is given up, then the counting of system calls, then windows are doubled; back in the
    opposite order, once it has cost less than half for :data:`PATIENCE_SECONDS`.

    Parameters
    ----------
    short_seconds
        Shortest window.
    budget_ratio
        Share of one core that the agent may use, as a mean over some seconds.

    Attributes
    ----------
    short_seconds
        Window in force.
    scans, system_calls
        Whether processes are looked at, and system calls counted.
    late
        Looks that were left out because the machine did not let the agent run in time.
    """

    def __init__(self, short_seconds: float = SHORT_SECONDS, budget_ratio: float = CPU_BUDGET_RATIO) -> None:
        self.short_seconds, self.late = short_seconds, 0
        self.scans = self.system_calls = True
        self._shortest, self._budget = short_seconds, budget_ratio
        self._cost = 0.0
        self._quiet_seconds = 0

    def spend(self, cores: float) -> None:
        """Learn what the last second has cost."""
        self._cost += SMOOTHING * (cores - self._cost)
        if self._cost > self._budget:
            self._quiet_seconds = 0
            self._cost = 0.75 * self._budget  # what comes next is judged by itself
            self._save()
        elif self._cost < self._budget / 2:
            self._quiet_seconds += 1
            if self._quiet_seconds >= PATIENCE_SECONDS:
                self._quiet_seconds = 0
                self._indulge()

    def _save(self) -> None:
        if self.scans:
            self.scans = False
        elif self.system_calls:
            self.system_calls = False
        else:
            self.short_seconds = min(2 * self.short_seconds, LONGEST_SECONDS)

    def _indulge(self) -> None:
        if self.short_seconds > self._shortest:
            self.short_seconds = max(self.short_seconds / 2, self._shortest)
        elif not self.system_calls:
            self.system_calls = True
        else:
            self.scans = True

    def next(self, due: float, now: float) -> float:
        """When to look next: one window after ``due``; what has been missed meanwhile is counted, not made up for."""
        following = due + self.short_seconds
        if following <= now:
            missed = int((now - following) / self.short_seconds) + 1
            self.late += missed
            following += missed * self.short_seconds
        return following
