"""Prefetchers to compare with: one access after the other, strictly causal, each in bounded memory.

====================  =====================================================================================
``none``              nothing: the cache alone
``readahead_1``       the next key after each access; ``readahead_4`` the next 4, ``readahead_8`` the next 8
``linux_like``        windows that double along a run, as in Linux's on-demand readahead
``stride``            a step seen twice in a row in a region of 256 numbers
``leap``              the step that most of the last misses took (Maruf & Chowdhury, ATC 2020)
``markov_1``          what came next after a key (Joseph & Grunwald, ISCA 1997); ``markov_2`` after two;
                      ``markov_1_misses`` and ``markov_2_misses`` among misses alone
``probability_graph`` whatever came within a few accesses (Griffioen & Appleton, USENIX 1994)
``mithril``           seldom used keys that miss near each other (Yang et al., SoCC 2017)
``amp``               runs with a degree and a distance of their own (Gill & Bathen, FAST 2007)
``stms``              what followed a key the last time (Wenisch et al., HPCA 2009)
``domino``            what followed two keys the last time (Bakhshalipour et al., HPCA 2018)
``pg_linux``          ``probability_graph`` and ``linux_like`` together
``domino_linux``      ``domino`` and ``linux_like`` together
====================  =====================================================================================

Each VM and kind of resource has a prefetcher of its own. Where it can make use of it, it is told how many accesses a
fetch takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from forestall.replay.access.peers.base import Prefetcher
from forestall.replay.access.peers.markov import Markov, ProbabilityGraph
from forestall.replay.access.peers.mithril import Mithril
from forestall.replay.access.peers.sequential import Amp, LinuxLike, Readahead
from forestall.replay.access.peers.stride import Leap, Stride
from forestall.replay.access.peers.temporal import Domino, Stms
from forestall.replay.access.peers.together import Factory, PerSpace, Together

Source = Literal["all", "misses"]
THRESHOLDS = (0.1, 0.3, 0.5)
WINDOWS = (5, 20)
DEGREES = (4, 8, 32)


@dataclass(frozen=True)
class AccessPeer:
    """A prefetcher as shipped, and with each setting of its knob.

    Attributes
    ----------
    name
        As in the table above.
    shipped
        Makes it with the setting that it comes with, one of ``knobs``.
    knobs
        Settings, in words, and what makes it with them; one if there is nothing to set.
    """

    name: str
    shipped: Factory
    knobs: tuple[tuple[str, Factory], ...]


def _fixed(name: str, factory: Factory) -> AccessPeer:
    return _tunable(name, "fixed", {"fixed": factory})


def _tunable(name: str, shipped: str, knobs: dict[str, Factory]) -> AccessPeer:
    made: dict[str, Factory] = {label: partial(PerSpace, factory) for label, factory in knobs.items()}
    return AccessPeer(name, made[shipped], tuple(made.items()))


def _unaware(make: Callable[[], Prefetcher], delay: int) -> Prefetcher:
    """A prefetcher that has no use for the delay."""
    return make()


def _with_linux(make: Factory, delay: int) -> Prefetcher:
    return Together(LinuxLike(), make(delay))


def _beside_linux(knobs: dict[str, Factory]) -> dict[str, Factory]:
    return {label: partial(_with_linux, factory) for label, factory in knobs.items()}


def _markov(name: str, order: int, on: Source) -> AccessPeer:
    knobs: dict[str, Factory] = {f"{share}": partial(_make_markov, order, on, share) for share in THRESHOLDS}
    return _tunable(name, "0.3", knobs)


def _make_markov(order: int, on: Source, threshold: float, delay: int) -> Prefetcher:
    return Markov(order, on, threshold, delay)


_GRAPHS: dict[str, Factory] = {
    f"window {window}, {share}": partial(ProbabilityGraph, window, share) for window in WINDOWS for share in THRESHOLDS
}
_STMS: dict[str, Factory] = {f"{degree}": partial(Stms, degree, "all") for degree in DEGREES}
_DOMINO: dict[str, Factory] = {f"{degree}": partial(Domino, degree, "all") for degree in DEGREES}
_DOMINO_ON_MISSES: dict[str, Factory] = {f"{degree}": partial(Domino, degree, "misses") for degree in DEGREES}

PEERS: dict[str, AccessPeer] = {
    peer.name: peer
    for peer in (
        _fixed("none", partial(_unaware, Together)),
        *(_fixed(f"readahead_{ahead}", partial(Readahead, ahead)) for ahead in (1, 4, 8)),
        _fixed("linux_like", partial(_unaware, LinuxLike)),
        _fixed("stride", partial(Stride, 4)),
        _fixed("leap", Leap),
        _markov("markov_1", 1, "all"),
        _markov("markov_2", 2, "all"),
        _markov("markov_1_misses", 1, "misses"),
        _markov("markov_2_misses", 2, "misses"),
        _tunable("probability_graph", "window 5, 0.3", _GRAPHS),
        _fixed("mithril", partial(_unaware, Mithril)),
        _fixed("amp", Amp),
        _tunable("stms", "8", _STMS),
        _tunable("domino", "8", _DOMINO),
        _tunable("pg_linux", "window 5, 0.3", _beside_linux(_GRAPHS)),
        _tunable("domino_linux", "32", _beside_linux(_DOMINO_ON_MISSES)),
    )
}
"""Every peer by its name, in the order of reports."""
