"""How often a loop may look, so that it stays within a share of a core."""

from __future__ import annotations

from dataclasses import dataclass

SAVED_SECONDS = 60.0
"""What was not used is kept for so long, for work comes in bursts; and no more than this is owed."""


@dataclass
class CoreBudget:
    """Time of a core that may be used, saved up and spent.

    Attributes
    ----------
    quick_seconds, calm_seconds, tired_seconds
        From one look to the next while there is something to see, while there is nothing, and while all is spent.
    """

    quick_seconds: float
    calm_seconds: float
    tired_seconds: float
    _saved: float = 0.0
    _at: float | None = None
    _spent: float = 0.0
    held_back_seconds: float = 0.0

    def next_seconds(self, now: float, spent_seconds: float, core_ratio: float, *, busy: bool) -> float:
        """How long to wait, at ``now`` and having used so much of a core in all, when that share of it is granted."""
        most = SAVED_SECONDS * core_ratio
        if self._at is None:
            self._saved = most
        else:
            saved = self._saved + core_ratio * (now - self._at) - (spent_seconds - self._spent)
            self._saved = min(max(saved, -most), most)
        self._at, self._spent = now, spent_seconds
        if self._saved <= 0.0:
            self.held_back_seconds += self.tired_seconds
            return self.tired_seconds
        return self.quick_seconds if busy else self.calm_seconds
