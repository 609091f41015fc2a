"""When to change an allocation: up at once, down when it pays, and never more often than allowed.

Every change costs: an action on the hypervisor, a balloon that inflates, a cache that empties. Without a limit on
changes a no-move band is enough: what is in force stays, as long as it is neither too little nor much too much.
With a limit each VM earns tokens (a token bucket): it may raise with one token, but lowers only when that gives back
more than a share :math:`c / n^2` of what is in force, :math:`n` the tokens it has: what is plentiful is cheap, and the
last ones are kept for raising. It then lowers to what suffices until the next change is likely, not for one interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.window import grown, retained

SMALLEST_CHANGE = 0.01


@dataclass(frozen=True)
class HoldingSettings:
    """How reluctant changes are.

    Attributes
    ----------
    band_ratio
        Lower only if that gives back more than this share of what is in force.
    changes_per_vm_hour
        Limit on changes; None: no limit.
    burst
        Tokens that a VM can save up: in a calm night it earns what a busy day spends.
    first_tokens
        Tokens of a new VM, to come down from its limit once it is known.
    token_price
        With a limit, ``c``: lower only if that gives back more than this share over the squared number of tokens.
    relax
        With a limit, how much likelier it is that one of the coming intervals exceeds than that each does.
    """

    band_ratio: float = 0.02
    changes_per_vm_hour: float | None = None
    burst: float = 24.0
    first_tokens: float = 4.0
    token_price: float = 8.0
    relax: float = 3.0


class Holding:
    """What is in force for each VM and budget, and the tokens left to change it.

    Parameters
    ----------
    budgets
        Number of budgets side by side.
    step_seconds
        Length of an interval.
    """

    def __init__(self, budgets: int, step_seconds: int, settings: HoldingSettings) -> None:
        self._settings = settings
        limit = settings.changes_per_vm_hour
        self._earned = np.inf if limit is None else limit * step_seconds / 3600.0
        self._held: FloatArray = np.full((budgets, 0), np.nan)
        self._tokens: FloatArray = np.zeros((budgets, 0))

    def in_force(self, vms: int) -> FloatArray:
        """What is in force (budget, vm); NaN for a VM that has never been given anything."""
        self._held = grown(self._held, vms, 1, np.nan)  # type: ignore[assignment]
        self._tokens = grown(self._tokens, vms, 1, self._settings.first_tokens)  # type: ignore[assignment]
        return self._held[:, :vms]

    def settle(self, needed: FloatArray, lasting: FloatArray, cap: FloatArray, floor: FloatArray) -> FloatArray:
        """Decide what is in force from now on.

        Parameters
        ----------
        needed
            Array (budget, vm): enough for the next interval.
        lasting
            Array (budget, vm): enough until the next change is likely; not used without a limit on changes.
        cap
            Array (vm,): more than this counts as this.
        floor
            Array (vm,): less than this is never in force, whatever changes are allowed; at most ``cap``.

        Returns
        -------
        FloatArray
            Array (budget, vm); NaN where ``needed`` is NaN.
        """
        vms = needed.shape[1]
        held = self.in_force(vms)
        if self._settings.changes_per_vm_hour is None:
            target, keep = needed, (held >= needed) & (held * (1.0 - self._settings.band_ratio) <= needed)
            keep |= np.abs(held - needed) <= 0.0
        else:
            target = np.minimum(np.maximum(needed, lasting), cap)
            keep = ~self._may_change(held, needed, target, vms)
        fresh = np.isnan(held) | np.isnan(needed)
        result = np.where(keep & ~fresh, np.minimum(np.maximum(held, floor), cap), target)
        self._spend(held, result, vms)
        self._held[:, :vms] = result
        return result

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self._held, self._tokens = retained(self._held, rows, 1), retained(self._tokens, rows, 1)

    def _may_change(self, held: FloatArray, needed: FloatArray, target: FloatArray, vms: int) -> BoolArray:
        tokens = self._tokens[:, :vms]
        rise = (needed > held) & (tokens >= 1.0)
        fall = target < held * (1.0 - self._settings.token_price / np.maximum(tokens, 1.0) ** 2)
        return rise | fall

    def _spend(self, held: FloatArray, result: FloatArray, vms: int) -> None:
        changed = np.abs(result - held) > SMALLEST_CHANGE * np.abs(held)
        earned = np.minimum(self._tokens[:, :vms] + self._earned, self._settings.burst)
        self._tokens[:, :vms] = earned - np.where(changed, 1.0, 0.0)
