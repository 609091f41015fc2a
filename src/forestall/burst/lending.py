"""What is lent of the cores that nobody has reserved: at once less, more only when it lasts, nothing after a miss.

The cores of a host are a pool: *reserved* for lenders, *lent* to borrowers, and *free* while it is not yet sure that
they will stay idle. A miss is a moment in which lenders waited for a core, or wanted more than was reserved. Then all
is given back at once. A few misses are what the budget allows; each one beyond that, within the memory, doubles for how
long nothing is lent, as SmartHarvest's safeguards do (Wang et al., EuroSys 2021).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from forestall.model.samples import FloatArray


@dataclass(frozen=True)
class LendingSettings:
    """How lending follows reservations.

    Attributes
    ----------
    step_cores
        What is lent moves up by at least so much, or not at all.
    patience
        Decisions in a row that must agree before more is lent.
    allowed_share
        Share of windows with a miss that is taken for granted.
    first_hold, longest_hold
        Decisions for which nothing is lent after a miss: after one that is allowed, and at most.
    memory
        Decisions after which a miss is forgotten.
    whole_cores
        Whether borrowers are given whole cores, as many as there are in what is lent.
    """

    step_cores: float = 0.05
    patience: int = 2
    allowed_share: float = 0.03
    first_hold: int = 1
    longest_hold: int = 128
    memory: int = 200
    whole_cores: bool = False


@dataclass(frozen=True)
class Loan:
    """The pool after a decision, cores; ``reason`` says why less is lent than could be, if so."""

    reserved: float
    lent: float
    free: float
    reason: str = ""


class Lending:
    """The pool of one host."""

    def __init__(self, settings: LendingSettings) -> None:
        self._settings = settings
        self._offers: deque[float] = deque(maxlen=settings.patience)
        self._lent = 0.0
        self._hold = 0
        self._decisions = 0
        self._missed_at: deque[int] = deque()
        self._why = ""
        self.misses = 0

    @property
    def lent(self) -> float:
        """Cores lent now."""
        return self._lent

    def miss(self, why: str) -> None:
        """Give everything back, and remember why. Once in a window counts."""
        settings = self._settings
        self._why = why
        if not self._missed_at or self._missed_at[-1] < self._decisions:
            self.misses += 1
            self._missed_at.append(self._decisions)
            while self._missed_at[0] <= self._decisions - settings.memory:
                self._missed_at.popleft()
            beyond = max(len(self._missed_at) - max(round(settings.allowed_share * settings.memory), 1), 0)
            self._hold = int(min(settings.first_hold * 2.0**beyond, settings.longest_hold))
        self._lent = 0.0
        self._offers.clear()

    def settle(self, reserved: float, cores: float) -> Loan:
        """Decide what is lent in the next window, where so many cores are reserved."""
        settings = self._settings
        self._decisions += 1
        offer = max(cores - reserved, 0.0)
        self._offers.append(offer)
        if self._hold > 0:
            self._hold -= 1
            self._lent = 0.0
            return Loan(reserved, 0.0, offer, f"{self._why}: nothing is lent for {self._hold + 1} more windows")
        lasting = min(self._offers) if len(self._offers) == settings.patience else self._lent
        if offer < self._lent:
            self._lent = offer
        elif lasting >= self._lent + settings.step_cores:
            self._lent = lasting
        reason = "more is lent when it lasts" if offer - self._lent >= settings.step_cores else ""
        return Loan(reserved, self._lent, offer - self._lent, reason)


def among(lent: float, weight: FloatArray, most: FloatArray) -> FloatArray:
    """Share what is lent among borrowers (borrower,) by weight; nobody gets more than ``most`` (borrower,), cores."""
    order = np.argsort(most / weight)
    shares, left, heavy = np.zeros(len(weight)), lent, float(weight.sum())
    for i in order:
        shares[i] = min(most[i], left * weight[i] / heavy if heavy > 0 else 0.0)
        left -= shares[i]
        heavy -= weight[i]
    return shares


def whole(cores: FloatArray) -> FloatArray:
    """The whole cores in these (borrower,); what is less than one stays."""
    return np.where(cores >= 1.0, np.floor(cores), cores)
