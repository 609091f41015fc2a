"""How traffic is spread over paths so that no link is worse used than need be, whichever of some scenarios comes.

One linear programme (HiGHS): the weighted mean over scenarios of the worst link's utilisation, plus a price for every
share that is moved to another path, so that rules in switches stay as they are unless it is worth it, and a small one
for longer paths. A pair whose traffic fills no link noticeably is left as it is. Source: Applegate and Cohen, Making
intra-domain routing robust to changing and uncertain traffic demands, SIGCOMM 2003; the price of change is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from forestall.fabric.paths import Paths
from forestall.model.samples import BoolArray, FloatArray

SMALLEST_SHARE = 1e-3
"""A smaller share of a pair's traffic is not worth a rule."""


@dataclass(frozen=True)
class Prices:
    """What is paid in utilisation of the worst link.

    Attributes
    ----------
    change
        To move all traffic of a pair to other paths.
    hop
        For each link of the path of a pair.
    least_ratio
        A pair that fills no link by this much in any scenario is left as it is.
    """

    change: float = 2e-3
    hop: float = 1e-6
    least_ratio: float = 1e-3


def spread(paths: Paths, scenarios: FloatArray, weight: FloatArray, share: FloatArray, prices: Prices) -> FloatArray:
    """Shares (path,) of each pair's traffic on its paths, which add up to 1.

    Parameters
    ----------
    paths
        Candidates.
    scenarios
        Array (scenario, pair): traffic that may come, bytes per second.
    weight
        Array (scenario,): how probable each is; adds up to 1.
    share
        Array (path,): what is in force.
    prices
        What changes and long paths cost.
    """
    matters = scenarios.max(axis=0, initial=0.0) > prices.least_ratio * paths.capacity.min(initial=np.inf)
    chosen = matters[paths.pair]
    if not chosen.any():
        return share
    solved = _solved(_programme(paths, scenarios, weight, share, chosen, prices))
    if solved is None:
        return share
    found = share.copy()
    found[chosen] = np.where(solved[: int(chosen.sum())] < SMALLEST_SHARE, 0.0, solved[: int(chosen.sum())])
    total = np.bincount(paths.pair, found, minlength=len(paths.pairs))
    return found / total[paths.pair]


def _programme(
    paths: Paths, scenarios: FloatArray, weight: FloatArray, share: FloatArray, chosen: BoolArray, prices: Prices
) -> dict[str, Any]:
    """Variables: shares of the chosen paths; the worst utilisation in each scenario; how much each share grows."""
    pair, uses = paths.pair[chosen], sp.csc_matrix(paths.uses)[:, chosen]
    count, many, links = int(chosen.sum()), len(scenarios), len(paths.capacity)
    inverse = sp.diags(1.0 / paths.capacity)
    fixed = inverse @ (paths.uses @ ((share * ~chosen)[:, None] * scenarios[:, paths.pair].T))
    loads = sp.vstack([inverse @ uses @ sp.diags(each[pair]) for each in scenarios]).tocsr()
    worst = sp.kron(sp.eye(many), np.ones((links, 1))).tocsr()
    used = np.diff(loads.indptr) > 0
    within = sp.hstack([loads[used], -worst[used], sp.csr_matrix((int(used.sum()), count))])
    growing = sp.hstack([sp.eye(count), sp.csr_matrix((count, many)), -sp.eye(count)])
    _, local = np.unique(pair, return_inverse=True)
    whole = sp.csr_matrix(
        (np.ones(count), (local, np.arange(count))), shape=(int(local.max()) + 1, count + many + count)
    )
    hops = np.asarray(uses.sum(axis=0)).ravel()
    return {
        "c": np.concatenate([prices.hop * hops, weight, np.full(count, prices.change)]),
        "A_ub": sp.vstack([within, growing]).tocsr(),
        "b_ub": np.concatenate([-fixed.T.ravel()[used], share[chosen]]),
        "A_eq": whole,
        "b_eq": np.ones(whole.shape[0]),
    }


def _solved(programme: dict[str, Any]) -> FloatArray | None:
    """The values of the variables; None where the solver gives up."""
    result = linprog(**programme, bounds=(0.0, None), method="highs")
    return None if result.x is None else np.asarray(result.x, np.float64)
