"""How traffic is spread over paths so that no link is worse used than need be, whichever of some scenarios comes.

One linear programme (HiGHS): the weighted mean over scenarios of the worst link's utilisation, plus a price for every
share that is moved to another path, so that rules in switches stay as they are unless it is worth it, and a small one
for longer paths. A pair whose traffic fills no link noticeably is left as it is. Few links can ever be the worst: the
programme begins with those that nearly are, and gets others as they turn out to be worse (row generation).

Source: Applegate and Cohen, Making intra-domain routing robust to changing and uncertain traffic demands, SIGCOMM 2003;
the price of change is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from forestall.fabric.paths import Paths
from forestall.model.samples import BoolArray, FloatArray

SMALLEST_SHARE = 1e-3
"""A smaller share of a pair's traffic is not worth a rule."""
STAYS_RATIO = 0.5
"""A pair of which the programme leaves so much on its path stays there."""
FULL_RATIO = 0.95
"""A pair that uses more of a link by itself is split."""
NEAR, NOTICEABLE, ROUNDS = 0.8, 1e-6, 20
"""Links that are used by this share of the worst one are looked at first, others once they turn out to be worse."""


@dataclass(frozen=True)
class Prices:
    """What is paid, in shares of what the worst link is usually used.

    Attributes
    ----------
    change
        To move all traffic of a pair to other paths.
    hop
        For each link of the path of a pair.
    least_ratio
        A pair that fills no link by this much in any scenario is left as it is.
    """

    change: float = 1e-2
    hop: float = 5e-6
    least_ratio: float = 5e-3


def spread(
    paths: Paths, scenarios: FloatArray, weight: FloatArray, share: FloatArray, prices: Prices, usual: float = 1.0
) -> FloatArray:
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
    usual
        How much of the worst link is usually used.
    """
    if not usual > 0.0:
        return share
    scenarios = scenarios / usual
    matters = scenarios.max(axis=0, initial=0.0) > prices.least_ratio * paths.capacity.min(initial=np.inf)
    chosen = matters[paths.pair]
    if not chosen.any():
        return share
    used = _use(paths, scenarios, share)
    looked_at = used >= NEAR * used.max(axis=1, keepdims=True)
    found = share
    for _ in range(ROUNDS):
        solved = _solved(paths, scenarios, weight, share, chosen, looked_at, prices)
        if solved is None:
            return share
        found, worst = solved
        missed = (_use(paths, scenarios, found) > worst[:, None] + NOTICEABLE) & ~looked_at
        if not missed.any():
            break
        looked_at |= missed
    found = np.where(found < SMALLEST_SHARE, 0.0, found)
    return found / np.bincount(paths.pair, found, minlength=len(paths.pairs))[paths.pair]


def kept_whole(
    paths: Paths,
    scenarios: FloatArray,
    weight: FloatArray,
    share: FloatArray,
    current: FloatArray,
    prices: Prices,
    usual: float,
) -> FloatArray:
    """Shares (path,) in which each pair takes one path, but for those that would fill it by themselves.

    Switches split traffic by connections: of a pair that has few the shares are a matter of luck, and one whose traffic
    takes one path is where it was planned to be. The largest come first; each takes the path that is best for all while
    the others stay where they are, and none moves for less than a change costs.
    """
    if not len(scenarios):
        return share
    share = share.copy()
    loads = _use(paths, scenarios, share)
    uses = sp.csc_matrix(paths.uses)
    begins = np.searchsorted(paths.pair, np.arange(len(paths.pairs) + 1))
    size = weight @ scenarios
    for k in np.argsort(-size, kind="stable").tolist():
        mine = np.arange(begins[k], begins[k + 1])
        split = (share[mine] > 0.0) & (share[mine] < 1.0)
        if not split.any() or not size[k] > 0.0:
            continue
        per_path = (uses[:, mine].toarray() / paths.capacity[:, None]).T
        others = loads - scenarios[:, k, None] * (share[mine] @ per_path)
        with_each = others[None] + scenarios[None, :, k, None] * per_path[:, None, :]
        cost = with_each.max(axis=2) @ weight - prices.change * usual * current[mine]
        stays = (current[mine] == 1.0) & (share[mine] >= STAYS_RATIO)
        best = int(np.argmax(stays)) if stays.any() else int(np.lexsort((-share[mine], np.round(cost, 9)))[0])
        if size[k] * per_path[best].max() <= FULL_RATIO:
            share[mine] = 0.0
            share[mine[best]] = 1.0
            loads = with_each[best]
    return share


def held_back(paths: Paths, traffic: FloatArray, share: FloatArray, wanted: FloatArray) -> FloatArray:
    """Shares (path,) to go on with so that no link is overfull on the way to them, whichever pairs move first.

    Pairs do not move at the same moment: for a while a link may carry those that come and those that will leave. Of
    pairs that come to a link, the largest first, as many move as fit beside all that it carries now; the others stay
    until there is room. A link that carries more than it can, before or afterwards, carries no more than that.

    Parameters
    ----------
    paths
        Candidates.
    traffic
        Array (pair,): what is sent now, bytes per second.
    share, wanted
        Arrays (path,): what is in force, and what shall be.

    Source: Hong et al., Achieving high utilization with software-driven WAN, SIGCOMM 2013 (updates free of congestion).
    """
    moving = np.unique(paths.pair[~np.isclose(share, wanted)])
    sent = traffic[paths.pair]
    of_pair = sp.csr_matrix((np.ones(len(sent)), (np.arange(len(sent)), paths.pair)), (len(sent), len(paths.pairs)))
    now, then = paths.uses @ (share * sent), paths.uses @ (wanted * sent)
    most = np.maximum(paths.capacity, np.maximum(now, then)) * (1.0 + NOTICEABLE)
    grows = paths.uses @ sp.diags((wanted - share) * sent) @ of_pair
    comes = np.maximum(sp.csc_matrix(grows)[:, moving].toarray(), 0.0)
    stay = []
    for k in np.argsort(-traffic[moving], kind="stable").tolist():
        if np.any(now + comes[:, k] > most):
            stay.append(moving[k])
        else:
            now = now + comes[:, k]
    return np.where(np.isin(paths.pair, stay), share, wanted)


def _use(paths: Paths, scenarios: FloatArray, share: FloatArray) -> FloatArray:
    """Utilisation of each link in each scenario, array (scenario, link)."""
    used: FloatArray = (paths.uses @ (share[:, None] * scenarios[:, paths.pair].T) / paths.capacity[:, None]).T
    return used


def _solved(
    paths: Paths,
    scenarios: FloatArray,
    weight: FloatArray,
    share: FloatArray,
    chosen: BoolArray,
    looked_at: BoolArray,
    prices: Prices,
) -> tuple[FloatArray, FloatArray] | None:
    """The best shares (path,) of the chosen paths if only some links (scenario, link) counted, and the worst of those
    in each scenario; None where the solver gives up.

    Variables: shares of the chosen paths; the worst utilisation in each scenario; how much each share grows.
    """
    pair, count, many = paths.pair[chosen], int(chosen.sum()), len(scenarios)
    scenario, link = np.nonzero(looked_at)
    uses = sp.csr_matrix(paths.uses)[link][:, chosen]
    loads = uses.multiply(scenarios[scenario][:, pair] / paths.capacity[link, None])
    worst = sp.csr_matrix((-np.ones(len(link)), (np.arange(len(link)), scenario)), shape=(len(link), many))
    within = sp.hstack([loads, worst, sp.csr_matrix((len(link), count))])
    growing = sp.hstack([sp.eye(count), sp.csr_matrix((count, many)), -sp.eye(count)])
    _, local = np.unique(pair, return_inverse=True)
    shape = (int(local.max()) + 1, 2 * count + many)
    whole = sp.csr_matrix((np.ones(count), (local, np.arange(count))), shape=shape)
    hops = np.asarray(paths.uses.sum(axis=0)).ravel()[chosen]
    fixed = _use(paths, scenarios, np.where(chosen, 0.0, share))[scenario, link]
    result = linprog(
        np.concatenate([prices.hop * hops, weight, np.full(count, prices.change)]),
        A_ub=sp.vstack([within, growing]).tocsr(),
        b_ub=np.concatenate([-fixed, share[chosen]]),
        A_eq=whole,
        b_eq=np.ones(shape[0]),
        bounds=(0.0, None),
        method="highs",
    )
    if result.status != 0:
        return None
    found = share.copy()
    found[chosen] = result.x[:count]
    return found, np.asarray(result.x[count : count + many], np.float64)
