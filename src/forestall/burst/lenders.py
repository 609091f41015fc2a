"""Those who lend cores: what the host's counters say of each, beat by beat, and what they do beside computing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from forestall.learning.peaks.model import LEVELS
from forestall.learning.peaks.rates import Rates
from forestall.model.samples import FloatArray, IntArray
from forestall.ports.cores import CoreUse

SIGNALS = ("faults_per_s", "operations_per_s")
RATE_WINDOWS = (1,)
EXPECTED = LEVELS.index(0.99)


class Lenders:
    """Lenders of one host, in their order.

    Attributes
    ----------
    vm_ids
        Their names.
    """

    def __init__(self) -> None:
        self.vm_ids: list[str] = []
        self._rows: IntArray = np.zeros(0, np.int64)
        self._before: CoreUse | None = None
        self._before_window: CoreUse | None = None
        self._rates = Rates(RATE_WINDOWS)
        self._expected: FloatArray = np.zeros((len(SIGNALS), 0))

    def follow(self, lenders: Sequence[str], watched: Sequence[str]) -> list[int]:
        """Know who lends from now on, and in which place each stands among all that are watched.

        Those that stay come first, in the order that they have; counters are compared anew.

        Returns
        -------
        list of int
            Places, before this call, of those that stay.
        """
        staying = [k for k, vm_id in enumerate(self.vm_ids) if vm_id in lenders]
        known = [self.vm_ids[k] for k in staying]
        ordered = known + [vm_id for vm_id in lenders if vm_id not in known]
        if ordered != self.vm_ids:
            self._rates = Rates(RATE_WINDOWS)
            self._rates.grow(len(SIGNALS) * len(ordered))
            self._expected = np.zeros((len(SIGNALS), len(ordered)))
        self.vm_ids = ordered
        place = {vm_id: k for k, vm_id in enumerate(watched)}
        self._rows = np.array([place[vm_id] for vm_id in ordered], np.int64)
        self._before = self._before_window = None
        return staying

    def beat(self, use: CoreUse) -> tuple[float, FloatArray] | None:
        """Seconds since the last reading, and what came since, (counter, lender); None where there was none.

        Counters are seconds run, seconds waited and times put on a core; nothing for a lender that is gone.
        """
        before, self._before = self._before, use
        if before is None or use.at <= before.at:
            return None
        pairs = (
            (before.run_seconds, use.run_seconds),
            (before.wait_seconds, use.wait_seconds),
            (before.runs, use.runs),
        )
        return use.at - before.at, np.stack([self._grown(*pair) for pair in pairs])

    def window(self, use: CoreUse) -> None:
        """Learn what they did beside computing since the last such reading, and expect what they will do."""
        before, self._before_window = self._before_window, use
        if before is None:
            return
        pairs = (before.faults, use.faults), (before.operations, use.operations)
        counted = np.concatenate([self._grown(*pair) for pair in pairs])
        said = self._rates.step(counted / (use.at - before.at))
        self._expected = said[0, :, EXPECTED].reshape(len(SIGNALS), -1)

    def rates(self) -> Mapping[str, Mapping[str, float]]:
        """What each will at most do within the next window, in 99 of 100 cases: faults and operations per second."""
        return {
            vm_id: dict(zip(SIGNALS, map(float, expected), strict=True))
            for vm_id, expected in zip(self.vm_ids, self._expected.T, strict=True)
        }

    def _grown(self, before: FloatArray, now: FloatArray) -> FloatArray:
        """By how much counters of the host (vm,) have grown (lender,); nothing where one is not known."""
        more = (now - before)[self._rows]
        return np.where(more > 0, more, 0.0)  # NaN is not
