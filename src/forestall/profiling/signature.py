"""The signature of a VM: which application runs in it, by its traffic, by its behaviour, and by both together.

Traffic is heard for moments only; what was heard once fades by half with each later listening. A port that was
recognised keeps its protocol, for most protocols can be told at the beginning of a connection alone. Behaviour is the
mean of what was claimed over the last minutes, and, in the beginning, of one claim that nothing is known. That a VM
which was seen at work does nothing says little about what it is for, and is believed slowly. Both are shares that sum
to one, the unknown included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from forestall.model.applications import CATEGORIES, CLAIMS
from forestall.model.samples import FloatArray
from forestall.ports.traffic import Flow

CACHES = frozenset({"RESP", "Redis", "Memcached", "Hazelcast"})
WEB = frozenset({"HTTP", "HTTP2", "HTTP_Proxy", "TLS", "QUIC", "FastCGI", "uWSGI"})
STREAMS = ("Media", "Streaming", "Video", "Music")
CATEGORY_OF = {"Web": "web", "Database": "database"} | dict.fromkeys(STREAMS, "streaming")
"""Ours for the categories of nDPI; protocols that stand above are named one by one."""
NO_APPLICATION = frozenset({"Network", "System", "Network-VPN"})
"""Traffic of these categories belongs to machines, not to what they are for: DNS, DHCP, ICMP, NTP."""
FADES, LEAST_BYTES, SURE = 0.5, 200.0, 0.98
BEHAVIOUR_RATE, IDLE_DISCOUNT, FORGETS_WORK = 0.1, 0.9, 0.999
IDLE = CLAIMS.index("idle")
MOST_PORTS, MOST_NAMES, LEAST_SEEN = 64, 32, 1.0


class Signature(NamedTuple):
    """Arrays (claim,) in the order of :data:`~forestall.model.applications.CLAIMS`; NaN where nothing is known.

    ``protocols`` are the bytes of each protocol that the VM was heard to serve, ``names`` the hashed names that it is
    asked for, with the bytes of its answers.
    """

    traffic: FloatArray
    behaviour: FloatArray
    together: FloatArray
    protocols: dict[str, float]
    names: dict[str, float]

    @property
    def application(self) -> tuple[str, float]:
        """The most probable claim, and its probability."""
        place = int(np.argmax(self.together))
        return CLAIMS[place], float(self.together[place])


def _faded(seen: Mapping[str, float]) -> dict[str, float]:
    """What is left of it after another listening."""
    return {name: FADES * amount for name, amount in seen.items() if amount > LEAST_SEEN}


def _most(seen: Mapping[str, float]) -> dict[str, float]:
    """The largest of it."""
    return dict(sorted(seen.items(), key=lambda pair: -pair[1])[:MOST_NAMES])


def category_of(flow: Flow) -> str | None:
    """Category of what a flow carries; empty if it is none of ours or was not recognised, None if it does not count."""
    master = flow.protocol.split(".")[0]
    if flow.category in NO_APPLICATION:
        return None
    if master in CACHES:
        return "cache"
    return "web" if master in WEB else CATEGORY_OF.get(flow.category, "")


@dataclass
class Recogniser:
    """Gathers what is known of one VM."""

    _bytes: FloatArray = field(default_factory=lambda: np.zeros(len(CLAIMS)))
    _ports: dict[tuple[int, int], Flow] = field(default_factory=dict)
    _protocols: dict[str, float] = field(default_factory=dict)
    _names: dict[str, float] = field(default_factory=dict)
    _behaviour: FloatArray | None = None
    _vectors: int = 0
    _at_work: float = 0.0

    def hear(self, flows: Sequence[Flow]) -> None:
        """Take in what was heard at one listening, which may be nothing."""
        self._bytes *= FADES
        self._protocols, self._names = _faded(self._protocols), _faded(self._names)
        for flow in sorted(flows, key=lambda flow: not flow.protocol):  # what is recognised tells of the rest
            if not flow.serves:
                continue
            known = self._known(flow)
            if (category := category_of(known)) is not None:
                self._bytes[CLAIMS.index(category) if category else -1] += flow.bytes
                name = known.protocol or f"unknown at {flow.port}"
                self._protocols[name] = self._protocols.get(name, 0.0) + flow.bytes
            if flow.name:
                self._names[flow.name] = self._names.get(flow.name, 0.0) + flow.bytes
        self._protocols, self._names = _most(self._protocols), _most(self._names)

    def behave(self, claims: FloatArray) -> None:
        """Take in what its newest vector claims (claim,)."""
        self._vectors += 1
        before = nothing_known() if self._behaviour is None else self._behaviour
        rate = max(BEHAVIOUR_RATE, 1.0 / (self._vectors + 1))
        self._at_work = max(self._at_work * FORGETS_WORK, 1.0 - float(before[IDLE] + before[-1]))
        rate *= 1.0 - IDLE_DISCOUNT * self._at_work * float(claims[IDLE])
        self._behaviour = before + rate * (claims - before)

    def signature(self) -> Signature:
        """What is known now."""
        nothing = np.full(len(CLAIMS), np.nan)
        total = float(self._bytes.sum())
        even = np.full(len(CLAIMS), 1.0 / len(CLAIMS))
        traffic = nothing if total < LEAST_BYTES else SURE * self._bytes / total + (1.0 - SURE) * even
        behaviour = nothing if self._behaviour is None else self._behaviour
        return Signature(traffic, behaviour, together(traffic, behaviour), dict(self._protocols), dict(self._names))

    @property
    def is_puzzling(self) -> bool:
        """Whether most of what it was heard to serve was not recognised."""
        total = float(self._bytes.sum())
        return total >= LEAST_BYTES and float(self._bytes[-1]) > total / 2

    def _known(self, flow: Flow) -> Flow:
        """The flow, with the protocol that was recognised at its port before where it was not recognised itself."""
        place = (flow.transport, flow.port)
        if flow.protocol:
            self._ports.pop(place, None)
            self._ports[place] = flow
            if len(self._ports) > MOST_PORTS:
                self._ports.pop(next(iter(self._ports)))
            return flow
        return self._ports.get(place, flow)


def together(traffic: FloatArray, behaviour: FloatArray) -> FloatArray:
    """Both kinds of evidence (claim,) as one; all unknown where there is none.

    Dempster's rule of combination: what is unknown to one is left to the other (Shafer, *A Mathematical Theory of
    Evidence*, 1976, chapter 3).
    """
    combined = nothing_known()
    for claims in (traffic, behaviour):
        if np.isfinite(claims).all():
            known, unknown = combined[:-1], combined[-1]
            agreed = known * claims[:-1] + known * claims[-1] + unknown * claims[:-1]
            combined = np.append(agreed, unknown * claims[-1])
            combined = combined / combined.sum()
    return combined


def nothing_known() -> FloatArray:
    """Claims (claim,) of whoever knows nothing."""
    return np.append(np.zeros(len(CATEGORIES)), 1.0)
