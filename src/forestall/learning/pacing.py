r"""Keeping a promise exactly: how much risk each VM takes at each moment, so that its budget is spent and no more.

The budget promises that a VM's demand exceeds its allocation in at most a share :math:`\varepsilon` of its intervals.
Each VM has a **price of a violation** :math:`\mu_i`, in resource units, and takes at each step the tail coordinate

.. math:: z^* = \arg\min_z \; Q_i(z) + \mu_i \, \bar F(z), \qquad
          \operatorname{logit}(1-\varepsilon) - b \le z \le \operatorname{logit}(1-\varepsilon) + a

which spends the allowed violations where they save most: when demand is uncertain, not when it is nearly known.
The price follows what happened, as in adaptive conformal inference (Gibbs & Candès, NeurIPS 2021) with the integral
term of conformal PID control (Angelopoulos, Candès & Tibshirani, NeurIPS 2023):

.. math:: \log\mu_i \leftarrow \log\mu_i + g\,(e_t - \varepsilon), \qquad
          \text{debt}_i \leftarrow \gamma\,\text{debt}_i + (e_t - \varepsilon)

so the long-run share of violations is :math:`\varepsilon` as long as the forecasts are not wrong by more than the range
allows. Each violation too many moves the safe end of the range outwards.

A VM that does something quite unlike before can use up its budget of days in an hour. While it **burns** its budget (as
alerts on burn rates have it: Beyer et al., *The Site Reliability Workbook*, 2018, 5), it takes no more risk than the
budget and holds at least what it used at most of late; and for half a day risk costs what it does now.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.learning.aggregation import LEAST_HOUR_STEPS
from forestall.learning.levels import MAX_EXTRAPOLATION, logit, tail
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.window import grown, retained

GRID = 17
DEBT_MEMORY = 0.9995
DEBT_RANGE = (-3.0, 12.0)
RISE = 0.15
LOG_PRICE_RANGE = (-6.0, 12.0)
SLOPE_MEMORY = 2016.0
SMALLEST_SLOPE = 1e-4
BURNS_FROM, BURNS_TIMES, BURNS_UNTIL = 0.2, 3.0, 0.05
"""Share of the last hour's intervals in violation from which on a VM burns its budget, if it is so many times the
budget too; and the share, or the budget, at which that is over."""

BURNT_HOURS = 12
"""For so long what risk costs is what it has cost since a VM began to burn its budget, if that is more."""


@dataclass(frozen=True)
class Pace:
    """What the pacer chose: arrays (budget, vm).

    ``probability`` is the chance of falling short that is accepted now, ``amount`` the quantile that it means.
    """

    probability: FloatArray
    amount: FloatArray


@dataclass(frozen=True)
class PacingSettings:
    """Gains of the feedback.

    Attributes
    ----------
    step
        What one violation adds to the logarithm of the price.
    debt
        What one violation too many adds to it as long as it is remembered.
    span_below, span_above
        How far a choice may lie from the budget in z: on the side of more risk, and on the safe side.
    """

    step: float = 0.07
    debt: float = 0.15
    span_below: float = 4.0
    span_above: float = 1.0


class Pacer:
    """Prices and debts of all VMs for several budgets side by side.

    Parameters
    ----------
    budgets
        Number of budgets.
    levels
        Quantile levels of the forecasts.
    hour
        Steps in an hour.
    """

    def __init__(self, budgets: int, levels: tuple[float, ...], settings: PacingSettings, hour: int = 12) -> None:
        self._settings = settings
        self._hour = max(hour, LEAST_HOUR_STEPS)
        # Share of violations of late, and whether it is far too high.
        self._lately: FloatArray = np.zeros((budgets, 0))
        self._burning: BoolArray = np.zeros((budgets, 0), dtype=bool)
        # The slope since the VM began to, and how many steps that is ago.
        self._slope_since: FloatArray = np.zeros((budgets, 0))
        self._since: FloatArray = np.zeros((budgets, 0))
        self._offsets: FloatArray = np.linspace(-settings.span_below, settings.span_above, GRID)
        self._outwards: FloatArray = np.linspace(0.0, 1.0, GRID)
        self._knots = logit(np.asarray(levels))
        self._log_price: FloatArray = np.zeros((budgets, 0))
        self._slope: FloatArray = np.zeros((budgets, 0))
        self._steps: FloatArray = np.zeros(0)
        self._debt: FloatArray = np.zeros((budgets, 0))

    def choose(
        self,
        quantiles: FloatArray,
        budget: FloatArray,
        scale: FloatArray,
        cap: FloatArray,
        relax: float = 1.0,
        used: FloatArray | None = None,
    ) -> Pace:
        """Choose how much risk to take.

        Parameters
        ----------
        quantiles
            Array (vm, level) of calibrated quantiles; NaN for a VM of which nothing is known.
        budget
            Array (budget, vm): the share of intervals in which each VM may fall short.
        scale
            What is a large difference for each VM (vm,); the first guess at its price.
        cap
            Allocations above ``cap`` (vm,) count as ``cap``.
        relax
            For the peak over several intervals: how much likelier it is that one of them exceeds than that each does.
        used
            The most that each VM (vm,) used of late, which one that burns its budget holds at least.
        """
        self._grow(quantiles.shape[0])
        vms = quantiles.shape[0]
        debt = np.clip(self._debt[:, :vms], *DEBT_RANGE)
        centre = logit(1.0 - np.minimum(budget * relax, 0.5))
        outwards = RISE * np.maximum(debt, 0.0)[..., None] * self._outwards
        z = np.minimum(centre[..., None] + self._offsets + outwards, self._knots[-1] + MAX_EXTRAPOLATION)
        amount = np.maximum.accumulate(np.minimum(self._read(quantiles, z), cap[None, :, None]), axis=-1)
        short = tail(z)
        if relax == 1.0:
            self._anchor(amount, budget, scale)
        lately = self._since[:, :vms] < BURNT_HOURS * self._hour
        slope = np.where(lately, np.fmax(self._slope, self._slope_since)[:, :vms], self._slope[:, :vms])
        price = slope / budget * np.exp(self._log_price[:, :vms] + self._settings.debt * debt)
        cost = amount + price[..., None] * short / relax
        burning = self._burning[:, :vms]
        cost = np.where(burning[..., None] & (self._offsets < 0), np.inf, cost)
        # On a tie the safer choice: the last of equal minima.
        best = GRID - 1 - np.argmin(np.nan_to_num(cost, nan=0.0)[..., ::-1], axis=-1)[..., None]
        chosen = np.take_along_axis(amount, best, axis=-1)[..., 0]
        if used is not None:
            chosen = np.where(burning, np.fmax(chosen, np.fmin(used, cap)), chosen)
        return Pace(np.take_along_axis(short, best, axis=-1)[..., 0], chosen)

    def burning(self, vms: int) -> BoolArray:
        """Which VMs burn their budget (budget, vm)."""
        self._grow(vms)
        return self._burning[:, :vms].copy()

    def _read(self, quantiles: FloatArray, z: FloatArray) -> FloatArray:
        """Quantile functions (vm, level) at coordinates (budget, vm, place), straight between and beyond levels."""
        lower = np.clip(np.searchsorted(self._knots, z, side="right") - 1, 0, len(self._knots) - 2)
        share = (z - self._knots[lower]) / (self._knots[lower + 1] - self._knots[lower])
        vm = np.arange(len(quantiles))[None, :, None]
        low = quantiles[vm, lower]
        read: FloatArray = low + np.maximum(share, 0.0) * (quantiles[vm, lower + 1] - low)
        return read

    def _grow(self, vms: int) -> None:
        self._log_price = grown(self._log_price, vms, 1, 0.0)  # type: ignore[assignment]
        self._debt = grown(self._debt, vms, 1, 0.0)  # type: ignore[assignment]
        self._slope = grown(self._slope, vms, 1, 0.0)  # type: ignore[assignment]
        self._steps = grown(self._steps, vms, 0, 0.0)  # type: ignore[assignment]
        self._lately = grown(self._lately, vms, 1, 0.0)  # type: ignore[assignment]
        self._burning = grown(self._burning, vms, 1, False)  # type: ignore[assignment]
        self._slope_since = grown(self._slope_since, vms, 1, 0.0)  # type: ignore[assignment]
        self._since = grown(self._since, vms, 1, np.inf)  # type: ignore[assignment]

    def forget(self, vms: BoolArray) -> None:
        """Learn anew what risk costs for these VMs (vm,): they have changed."""
        self._grow(len(vms))
        self._steps[: len(vms)] = np.where(vms, np.minimum(self._steps[: len(vms)], 1.0), self._steps[: len(vms)])

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self._log_price, self._debt = retained(self._log_price, rows, 1), retained(self._debt, rows, 1)
        self._slope, self._steps = retained(self._slope, rows, 1), retained(self._steps, rows, 0)
        self._lately, self._burning = retained(self._lately, rows, 1), retained(self._burning, rows, 1)
        self._slope_since, self._since = retained(self._slope_since, rows, 1), retained(self._since, rows, 1)

    def _anchor(self, amount: FloatArray, budget: FloatArray, scale: FloatArray) -> None:
        """Follow what one unit of z usually costs: the price at which the budget itself would be chosen."""
        vms = len(scale)
        span = self._settings.span_below + self._settings.span_above
        rise = np.fmax((amount[..., -1] - amount[..., 0]) / span, SMALLEST_SLOPE * scale)
        self._steps[:vms] += 1.0
        rate = np.maximum(1.0 / self._steps[:vms], 1.0 / SLOPE_MEMORY)
        self._slope[:, :vms] += rate * (rise - self._slope[:, :vms])
        self._since[:, :vms] += 1.0
        self._slope_since[:, :vms] += (rise - self._slope_since[:, :vms]) / self._since[:, :vms]

    def learn(
        self, violated: BoolArray, observed: BoolArray, budget: FloatArray, unusual: BoolArray | None = None
    ) -> None:
        """Move prices after an interval: ``violated`` and ``budget`` (budget, vm), ``observed`` (vm,).

        Only VMs that are ``unusual`` (vm,) begin to burn their budget: those that do something unlike before.
        """
        n = violated.shape[1]
        error = np.where(observed, violated - budget[:, :n], 0.0)
        moved = self._log_price[:, :n] + self._settings.step * error
        self._log_price[:, :n] = np.clip(moved, *LOG_PRICE_RANGE)
        self._debt[:, :n] = np.where(observed, DEBT_MEMORY * self._debt[:, :n] + error, self._debt[:, :n])
        self._burn(violated & observed, observed, budget[:, :n], np.zeros(n, bool) if unusual is None else unusual[:n])

    def _burn(self, violated: BoolArray, observed: BoolArray, budget: FloatArray, unusual: BoolArray) -> None:
        """Note who burns its budget (budget, vm)."""
        n = len(observed)
        unusual = np.pad(unusual, (0, n - len(unusual)))
        self._lately[:, :n] += np.where(observed, (violated - self._lately[:, :n]) / self._hour, 0.0)
        lately, burning = self._lately[:, :n], self._burning[:, :n]
        begins = unusual & (lately > np.maximum(BURNS_TIMES * budget, BURNS_FROM))
        self._since[:, :n][begins & ~burning] = 0.0
        self._burning[:, :n] = begins | (burning & (lately > np.maximum(budget, BURNS_UNTIL)))
