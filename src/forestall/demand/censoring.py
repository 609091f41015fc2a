r"""What a capped VM would have used: demand seen at the cap is the cap's, not the VM's.

A VM is never seen to use more than it holds. If it is held at :math:`a` below its limit :math:`L` and is seen to use
:math:`y \ge \kappa a`, its demand is somewhere in :math:`[y, L]`, and the sample says only that. Taken as it is, it
would tell the loop that its allocation was right, for ever. So it counts as a violation, and demand is taken to be

.. math:: \hat d = \min\bigl(L,\; \max(y, a)\, f g^{\,n-1}\bigr)

with :math:`n` the number of intervals in a row in which the VM was seen at its cap. The first guess is a little above
the cap, :math:`f` of it, where most demand is that was cut off: what is guessed is learned from as if it had been seen,
and a guess far too high costs slack for days. From then on the search is multiplicative: a VM whose demand is :math:`D`
is found after about :math:`1 + \sqrt{2 \log_g (D / a)}` intervals, and what it is given meanwhile overshoots by less
than a factor :math:`g^n`. It ends by itself: as soon as less than :math:`\kappa a` is used, what is
seen is the demand again.

For memory, "used" is what the guest has less what it calls usable, so that :math:`y \ge \kappa a` says that less than a
share :math:`1 - \kappa` of it is usable. Where the host knows for which share of the interval a VM was throttled, that
decides as well: one that was stopped nearly all the time wanted more; one that was stopped in its bursts, and used less
than it held in the end, was served within the interval.

Source: the demand of a censored sample, as in Tobin, "Estimation of Relationships for Limited Dependent Variables",
Econometrica 1958; multiplicative increase as in slow start, RFC 5681.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray

MOST_IN_A_ROW = 8
"""More intervals at the cap do not raise the guess further; by then it is at the limit, or nothing was given."""


@dataclass(frozen=True)
class CensoringSettings:
    """When a sample counts as seen at the cap, and how far demand is then taken to be above it.

    Attributes
    ----------
    capped_ratio
        :math:`\\kappa`: use from this share of what is in force on is use at the cap.
    first_growth, growth
        :math:`f` and :math:`g`, above 1.
    throttled_share
        A VM that was throttled for more than this share of the interval was at its cap, whatever it used.
    """

    capped_ratio: float = 0.98
    first_growth: float = 1.1
    growth: float = 1.5
    throttled_share: float = 0.9


DEFAULTS: Mapping[Resource, CensoringSettings] = MappingProxyType(
    {
        # A guest reclaims and swaps before the last page is gone; memory is given in smaller bites than cores.
        Resource.MEMORY: CensoringSettings(capped_ratio=0.9, first_growth=1.25, growth=1.25),
        **{r: CensoringSettings() for r in Resource if r is not Resource.MEMORY},
    }
)


@dataclass(frozen=True)
class Uncensored:
    """Arrays (vm,): demand as it is taken to be, where the VM was seen at its cap, and for how many intervals now."""

    demand: FloatArray
    capped: BoolArray
    in_a_row: IntArray


def uncensor(
    seen: FloatArray,
    held: FloatArray,
    limit: FloatArray,
    in_a_row: IntArray,
    settings: CensoringSettings,
    throttled: FloatArray | None = None,
) -> Uncensored:
    """Take demand to be higher where a VM was seen at its cap.

    Parameters
    ----------
    seen
        Array (vm,): what each VM used in the interval, in the resource's unit; NaN is a gap and stays one.
    held
        Array (vm,): what was in force in that interval; NaN or inf says that nothing capped the VM.
    limit
        Array (vm,): what the VM is provisioned with; at its limit a VM is not capped by us. NaN or inf: none known.
    in_a_row
        Array (vm,): the result of the last call; VMs beyond its end are new.
    settings
        Thresholds.
    throttled
        Array (vm,) of shares of the interval in [0, 1], NaN where the host does not know; None: it never does.

    Examples
    --------
    >>> import numpy as np
    >>> seen, held, limit = np.array([1.0, 0.5]), np.array([1.0, 1.0]), np.array([4.0, 4.0])
    >>> first = uncensor(seen, held, limit, np.zeros(0, np.int64), CensoringSettings())
    >>> second = uncensor(seen, held, limit, first.in_a_row, CensoringSettings())
    >>> first.demand.tolist(), second.demand.round(2).tolist()
    ([1.1, 0.5], [1.65, 0.5])
    """
    before = np.zeros(len(seen), np.int64)
    before[: len(in_a_row)] = in_a_row
    bound = np.where(np.isnan(limit), np.inf, limit)
    below_limit = (held > 0) & np.isfinite(held) & (held < bound * (1.0 - 1e-9))
    at_cap = seen >= settings.capped_ratio * held
    if throttled is not None:
        at_cap |= throttled > settings.throttled_share
    capped = below_limit & at_cap & ~np.isnan(seen)
    count = np.where(np.isnan(seen), before, np.where(capped, np.minimum(before + 1, MOST_IN_A_ROW), 0))
    base = np.where(capped, np.maximum(seen, held), 0.0)
    factor = settings.first_growth * settings.growth ** (count - 1.0)
    guess = np.minimum(np.maximum(base * factor, seen), np.maximum(bound, seen))
    return Uncensored(np.where(capped, guess, seen), capped, count.astype(np.int64))
