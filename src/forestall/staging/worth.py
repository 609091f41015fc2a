"""Whether staging memory for a trust group pays, and from which chance on: by what came of what was staged."""

from __future__ import annotations

from dataclasses import dataclass

from forestall.staging.memory import SURE, THRESHOLD

MEMORY_PAGES = 16_384.0
"""What was staged longer ago counts half."""
LEAST_PAGES = 1_024.0
"""Nothing is concluded from less."""
STEP, LEAST_THRESHOLD = 1.1, 0.1
MARGIN = 0.05


@dataclass
class Worth:
    """Of the pages staged of late, how many were touched, and how many were not and have been given back.

    Attributes
    ----------
    least_precision
        Share of staged pages that must be touched: what it costs to stage a page in vain, over what it costs and what
        it saves to have staged it. Below it nothing is staged, but what would have been is still followed.
    """

    least_precision: float
    threshold: float = THRESHOLD
    pays: bool = True
    _hits: float = 0.0
    _wasted: float = 0.0
    _since: float = 0.0

    @property
    def precision(self) -> float:
        """Share of the pages staged of late that were touched; NaN before anything is known."""
        total = self._hits + self._wasted
        return self._hits / total if total else float("nan")

    def came_of(self, hits: int, wasted: int) -> None:
        """Staged pages were touched, or given back without that."""
        fading = 0.5 ** ((hits + wasted) / MEMORY_PAGES)
        self._hits = fading * self._hits + hits
        self._wasted = fading * self._wasted + wasted
        self._since += hits + wasted
        if self._since < LEAST_PAGES:
            return
        self._since = 0.0
        if self.precision < self.least_precision + MARGIN:
            self.threshold = min(self.threshold * STEP, SURE)
        elif self.precision > self.least_precision + 3 * MARGIN:
            self.threshold = max(self.threshold / STEP, LEAST_THRESHOLD)
        self.pays = self.precision >= self.least_precision + (0.0 if self.pays else MARGIN)
