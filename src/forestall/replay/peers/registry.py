"""Every peer by its name; a peer's module is imported when the peer is made, not before."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from forestall.model.errors import WrongUse
from forestall.model.resources import Resource
from forestall.replay.peers.base import Peer
from forestall.replay.peers.rolling import DAY_SECONDS, HOUR_SECONDS, WEEK_SECONDS


def _lazy(module: str, kind: str, *arguments: Any) -> Callable[[], Peer]:
    def make() -> Peer:
        made: Peer = getattr(import_module(f"{__package__}.{module}"), kind)(*arguments)
        return made

    return make


PEERS: dict[str, Callable[[], Peer]] = {
    "static": _lazy("static", "Static"),
    "reactive": _lazy("reactive", "Reactive"),
    "residual": _lazy("reactive", "Residual"),
    "deviation": _lazy("reactive", "Deviation"),
    "headroom": _lazy("headroom", "Headroom", "headroom", 0),
    "headroom_max_15m": _lazy("headroom", "Headroom", "headroom_max_15m", HOUR_SECONDS // 4),
    "headroom_max_1h": _lazy("headroom", "Headroom", "headroom_max_1h", HOUR_SECONDS),
    "moving_max_15m": _lazy("moving_max", "MovingMax", "15m", HOUR_SECONDS // 4),
    "moving_max_1h": _lazy("moving_max", "MovingMax", "1h", HOUR_SECONDS),
    "moving_max_6h": _lazy("moving_max", "MovingMax", "6h", 6 * HOUR_SECONDS),
    "moving_max_24h": _lazy("moving_max", "MovingMax", "24h", DAY_SECONDS),
    "ewma": _lazy("ewma", "Ewma"),
    "seasonal_naive": _lazy("seasonal_naive", "SeasonalNaive", "seasonal_naive", DAY_SECONDS),
    "seasonal_naive_week": _lazy("seasonal_naive", "SeasonalNaive", "seasonal_naive_week", WEEK_SECONDS),
    "percentile": _lazy("percentile", "Percentile"),
    "tournament": _lazy("tournament", "Tournament"),
    "vpa": _lazy("vpa", "Vpa"),
    "autopilot": _lazy("autopilot", "Autopilot"),
    "autopilot_load_adjusted": _lazy("autopilot", "Autopilot", True),
    "nsigma": _lazy("nsigma", "NSigma"),
    "rc_like": _lazy("rc_like", "RcLike"),
    "google_max": _lazy("google_max", "GoogleMax"),
    "cloudscale": _lazy("cloudscale", "CloudScale"),
    "crane": _lazy("crane", "Crane"),
    "koordinator": _lazy("koordinator", "Koordinator"),
    "mom": _lazy("mom", "Mom"),
    "proxmox": _lazy("proxmox", "Proxmox"),
    "autoets": _lazy("autoets", "AutoEts"),
    "autoets_gaussian": _lazy("autoets", "AutoEts", True),
    "autoarima": _lazy("autoarima", "AutoArima"),
    "autoarima_gaussian": _lazy("autoarima", "AutoArima", True),
    "mstl": _lazy("mstl", "Mstl"),
    "mstl_gaussian": _lazy("mstl", "Mstl", True),
    "gbm": _lazy("gbm", "Gbm"),
    "gru": _lazy("gru", "Gru"),
    "gbm_gru": _lazy("gru", "Gru", True),
    "oracle": _lazy("oracle", "Oracle"),
}
"""How to make each peer, by name, in the order of reports."""

SIMPLE: tuple[str, ...] = tuple(PEERS)[1 : tuple(PEERS).index("tournament") + 1]
"""Simple rules, which no product has to ship for people to use them."""

PUBLISHED: tuple[str, ...] = (
    "vpa", "autopilot", "nsigma", "rc_like", "google_max", "cloudscale", "crane", "koordinator", "mom", "proxmox"
)  # fmt: skip
"""Systems that are published or shipped."""

MEMORY_ONLY = frozenset({"mom", "proxmox"})
"""Peers that know nothing but memory."""


def peer(name: str) -> Peer:
    """Make the peer called ``name``.

    Raises
    ------
    WrongUse
        No peer has that name.
    """
    if name in PEERS:
        return PEERS[name]()
    close = get_close_matches(name, PEERS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(PEERS)}"
    raise WrongUse(f"no policy is called {name!r}; {hint}")


def for_resource(resource: Resource) -> tuple[str, ...]:
    """Names of the peers that can allocate ``resource``."""
    return tuple(name for name in PEERS if resource is Resource.MEMORY or name not in MEMORY_ONLY)
