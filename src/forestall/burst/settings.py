"""Settings of the burst loop's decision core."""

from __future__ import annotations

from dataclasses import dataclass, field

from forestall.learning.pacing import PacingSettings
from forestall.model.errors import WrongUse

BEAT_US = 25_000
"""A beat is no longer than this."""
HORIZONS_MS = (100, 250, 500)
PACING = PacingSettings(span_below=2.0)
"""Not so far below the budget as in the demand loop: a few hundred windows must be enough to keep it."""


@dataclass(frozen=True)
class BurstSettings:
    """How the burst loop decides.

    Attributes
    ----------
    cores
        What the host has for its VMs.
    beat_us
        Time from one reading of the counters that is learned from to the next.
    window_beats
        A decision holds for so many beats.
    budgets
        Share of decision windows in which a reservation may be too small; several are decided side by side.
    pooled
        Whether the VMs share what is reserved, or each has its own.
    pacing
        Gains of the feedback that keeps the budget.
    seed
        Of the draws of analogues.
    """

    cores: float
    beat_us: int = BEAT_US
    window_beats: int = 4
    budgets: tuple[float, ...] = (0.01,)
    pooled: bool = True
    pacing: PacingSettings = field(default_factory=lambda: PACING)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.cores > 0:
            raise WrongUse(f"{self.cores:g} cores: must be above 0")
        if self.window_beats < 1 or self.beat_us < 1:
            raise WrongUse("a decision window has at least one beat")

    @property
    def window_us(self) -> int:
        """For how long a decision holds."""
        return self.window_beats * self.beat_us

    @property
    def horizons(self) -> tuple[int, ...]:
        """Beats that are forecast: the decision window first, then :data:`HORIZONS_MS`."""
        usual = (round(ms * 1000 / self.beat_us) for ms in HORIZONS_MS)
        return tuple(dict.fromkeys((self.window_beats, *(beats for beats in usual if beats > 0))))


def beats_of(window_us: int, trace_window_us: int) -> int:
    """How many windows of a trace make a beat: as many as fit into :data:`BEAT_US` and divide a decision window."""
    windows = window_us // trace_window_us
    fitting = [n for n in range(1, windows + 1) if windows % n == 0 and n * trace_window_us <= BEAT_US]
    return max(fitting, default=1)
