"""The decision core of the burst loop: how many cores are reserved for whom in the next window.

No I/O, no clock, no threads. Beat by beat it takes in what VMs used; once in a window it decides. What is reserved is
what the budget asks for, at the price of a violation that keeps the promise (learning/pacing). What is reserved for
all together is written to each by what it would need alone; where each has its own, and the host is too small for all,
it is divided at equal marginal risk (learning/waterfill). Nothing is reserved beyond what the demand loop allows a VM:
that is the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from forestall.burst.settings import BurstSettings
from forestall.learning.pacing import Pace, Pacer
from forestall.learning.peaks.forecaster import POOL, PeakForecaster
from forestall.learning.peaks.model import LEVELS, PeakModel
from forestall.learning.waterfill import Claims, water_fill
from forestall.model.samples import BoolArray, FloatArray, IntArray

COLD_BEATS = 80
"""A VM that has been seen for less is reserved its frame."""
TOLERANCE_CORES = 1e-9
MARGIN = 1.0 + 2e-3
"""Of a VM that always uses the same it must not depend on rounding whether it was short."""
ROUNDS = 3
"""λ of a host that is too small is right to a few in ten thousand."""
_LEVELS = np.asarray(LEVELS)


@dataclass(frozen=True)
class BurstCycle:
    """What one decision reserved, and why; arrays over the VMs.

    Attributes
    ----------
    reserved
        Array (budget, vm), cores; with a shared reservation only the sum counts.
    total
        Array (budget,), cores reserved in all.
    probability
        Array (budget, vm or 1): accepted chance that the reservation is too small, of each VM or of the pool.
    price
        Array (budget,): λ at which a host that is too small is divided; 0 where there is room.
    quantiles
        Array (horizon, row, level): the forecast; row 0 is the pool.
    """

    reserved: FloatArray
    total: FloatArray
    probability: FloatArray
    price: FloatArray
    quantiles: FloatArray


class BurstLoop:
    """The burst loop of one host.

    Parameters
    ----------
    settings
        How.
    model
        The recurrent expert; None: do without.
    """

    def __init__(self, settings: BurstSettings, model: PeakModel | None) -> None:
        self.settings = settings
        self.forecaster = PeakForecaster(settings.horizons, model, np.random.default_rng(settings.seed))
        second = round(1e6 / settings.window_us)
        self._pacer = Pacer(len(settings.budgets), LEVELS, settings.pacing, second)
        self._reserved: FloatArray = np.zeros((len(settings.budgets), 0))
        self._beats: IntArray = np.zeros(0, np.int64)
        self._peak: FloatArray = np.zeros(1)
        # What was reserved in the window that has ended, and the highest use in it, until it is learned from.
        self._ended: tuple[FloatArray, FloatArray] | None = None

    @property
    def vms(self) -> int:
        """How many VMs there are."""
        return self.forecaster.rows - 1

    def grow(self, vms: int) -> None:
        """Make room for so many VMs; new ones stand last."""
        self.forecaster.grow(vms + 1)
        self._beats = np.pad(self._beats, (0, vms - len(self._beats)))
        self._peak = np.pad(self._peak, (0, vms + 1 - len(self._peak)))

    def keep(self, vms: IntArray) -> None:
        """Forget all VMs but these (increasing)."""
        self._pay()
        rows = np.concatenate([[POOL], vms + 1])
        self.forecaster.keep(rows)
        self._pacer.keep(np.array([POOL]) if self.settings.pooled else vms)
        # What the others used in this window is not held against those that stay.
        self._beats, self._peak = self._beats[vms], np.zeros(len(rows))
        kept = vms[vms < self._reserved.shape[1]]
        self._reserved = self._reserved[:, kept]

    def take_in(self, mean: FloatArray, peak: FloatArray, pool_peak: float) -> None:
        """Take in a beat.

        Parameters
        ----------
        mean, peak
            Arrays (vm,): mean and highest use of each VM within the beat, cores.
        pool_peak
            Highest use of all together, cores.
        """
        if len(mean) > self.vms:
            self.grow(len(mean))
        rows = np.concatenate([[pool_peak], peak])
        self.forecaster.take_in(np.concatenate([[mean.sum()], mean]), rows)
        self._peak = np.maximum(self._peak, rows)
        self._beats += 1

    def decide(self, frame: FloatArray, weight: FloatArray | None = None) -> BurstCycle:
        """Decide what is reserved in the window that begins now.

        Parameters
        ----------
        frame
            Array (vm,): the most that may be reserved for each VM, cores.
        weight
            Array (vm,), > 0; None: all alike.
        """
        quantiles = self.forecaster.forecast()
        budgets = np.asarray(self.settings.budgets)[:, None]
        weight = np.ones(self.vms) if weight is None else weight
        decided = self._filled(quantiles[0], frame)
        if self.settings.pooled:
            pace = self._choose(decided[:1], budgets, self.forecaster.scale[:1], np.array([self._most(frame)]))
            price = np.zeros(len(budgets))
            reserved = np.stack(
                [
                    _to(weight * _at(decided[1:], frame, budget), total)
                    for budget, total in zip(self.settings.budgets, pace.amount[:, 0], strict=True)
                ]
            )
        else:
            each = np.repeat(budgets, self.vms, axis=1) / np.maximum(weight, 1.0)
            pace = self._choose(decided[1:], each, self.forecaster.scale[1:], frame)
            shares = [
                self._share(decided[1:], wanted, short, weight)
                for wanted, short in zip(pace.amount, pace.probability, strict=True)
            ]
            reserved, price = np.stack([share for share, _ in shares]), np.array([price for _, price in shares])
        self._ended = (self._reserved, self._peak) if self._reserved.shape[1] else None
        self._reserved, self._peak = reserved, np.zeros(self.vms + 1)
        return BurstCycle(reserved, reserved.sum(axis=1), pace.probability, price, quantiles)

    def learn(self) -> None:
        """Learn from what came; after a decision, when what had to be done was done."""
        self._pay()
        self.forecaster.learn()

    def _pay(self) -> None:
        """Tell the pacer which reservations of the window that has ended were too small."""
        if self._ended is None:
            return
        (reserved, peak), self._ended = self._ended, None
        n = reserved.shape[1]
        budget = np.asarray(self.settings.budgets)[:, None]
        if self.settings.pooled:
            short = peak[POOL] > reserved.sum(axis=1) + TOLERANCE_CORES
            self._pacer.learn(short[:, None], np.ones(1, bool), budget)
            return
        short = peak[1 : n + 1] > reserved + TOLERANCE_CORES
        self._pacer.learn(short, np.ones(n, bool), np.repeat(budget, n, axis=1))

    def missed(self, tolerance_cores: float = TOLERANCE_CORES) -> BoolArray:
        """Whether the VMs together have used more than is reserved (budget,), since the last decision."""
        return np.asarray(self._peak[POOL] > self._reserved.sum(axis=1) + tolerance_cores)

    def _most(self, frame: FloatArray) -> float:
        return float(min(self.settings.cores, frame.sum()))

    def _filled(self, quantiles: FloatArray, frame: FloatArray) -> FloatArray:
        """Quantiles (row, level) within the frame; VMs that are new may want all of theirs."""
        most = np.concatenate([[self._most(frame)], frame])[:, None]
        cold = np.concatenate([[bool((self._beats < COLD_BEATS).any())], self._beats < COLD_BEATS])
        return np.where(cold[:, None], most, np.minimum(quantiles, most))

    def _choose(self, quantiles: FloatArray, budget: FloatArray, scale: FloatArray, most: FloatArray) -> Pace:
        pace = self._pacer.choose(quantiles, budget, scale, most)
        return replace(pace, amount=np.minimum(pace.amount * MARGIN, most))

    def _share(
        self, quantiles: FloatArray, wanted: FloatArray, short: FloatArray, weight: FloatArray
    ) -> tuple[FloatArray, float]:
        """Amounts (vm,) out of what the host has, and the price λ."""
        vms = len(wanted)
        if not vms:
            return np.zeros(0), 0.0
        claims = Claims(quantiles, _LEVELS, short, wanted, weight, np.zeros(vms))
        share = water_fill(claims, np.zeros(vms, np.int64), np.array([self.settings.cores]), ROUNDS)
        return share.amount, float(share.price[0])


def _at(quantiles: FloatArray, frame: FloatArray, budget: float) -> FloatArray:
    """What each VM (vm,) would have if it were alone: the nearest level to its budget, within its frame."""
    level = int(np.argmin(np.abs(_LEVELS - (1.0 - budget))))
    return np.minimum(quantiles[:, level], frame)


def _to(amount: FloatArray, total: float) -> FloatArray:
    """Amounts (vm,) in the same proportion, with another sum."""
    now = amount.sum()
    return amount * (total / now) if now > 0 else np.full(len(amount), total / max(len(amount), 1))
