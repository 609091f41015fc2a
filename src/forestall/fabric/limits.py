"""What each interface may send: shared at each switch's way into the network, by what is foreseen and policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from forestall.fabric.bandwidth import Needs, allotted
from forestall.fabric.classes import TrafficClass
from forestall.model.forecast import LEVELS
from forestall.model.samples import FloatArray
from forestall.ports.fabric import Interface

LEAST_BYTES_PER_S = 12_500.0
"""Nobody is held to less: a VM must be able to ask for an address, and to say that it is there."""
STEADY_RATIO = 0.05
"""A limit that changes by less is left as it is; one that is this near to what the port can do is none."""


class Claim(NamedTuple):
    """What is known of a VM, and what policy says of it.

    Attributes
    ----------
    traffic_class
        Of what it sends; None: as its packets say themselves.
    weight, floor_bytes_per_s, ceiling_bytes_per_s
        Of each of its interfaces, for what it sends.
    budget
        Share of its intervals in which it may want to send more than it may.
    """

    traffic_class: TrafficClass | None = None
    weight: float = 1.0
    floor_bytes_per_s: float = 0.0
    ceiling_bytes_per_s: float = float("inf")
    budget: float = 0.01


class Asker(NamedTuple):
    """An interface that wants to send.

    Attributes
    ----------
    interface, claim
        Who, and what is known of it.
    speed_bytes_per_s
        Of its port.
    sent_bytes_per_s
        What it sent of late.
    quantiles
        Of the peak that it will come to (level,); None of one of which nothing is known yet.
    """

    interface: Interface
    claim: Claim
    speed_bytes_per_s: float
    sent_bytes_per_s: float
    quantiles: FloatArray | None


def limits_of(askers: Sequence[Asker], capacity: Mapping[int, float], before: Mapping[str, float]) -> dict[str, float]:
    """What each interface may send, bytes per second by address; one that nothing holds down is not named.

    One of which nothing is known yet is left as policy has it, and counts for what it sends.

    Parameters
    ----------
    askers
        All interfaces.
    capacity
        What leads away from each switch, bytes per second.
    before
        Limits in force.
    """
    if not askers:
        return {}
    claims = [asker.claim for asker in askers]
    speed = np.array([asker.speed_bytes_per_s for asker in askers])
    ceiling = np.minimum(np.maximum([claim.ceiling_bytes_per_s for claim in claims], LEAST_BYTES_PER_S), speed)
    quantiles = np.array(
        [np.full(len(LEVELS), a.sent_bytes_per_s) if a.quantiles is None else a.quantiles for a in askers]
    )
    needs = Needs(
        quantiles=np.minimum(quantiles, ceiling[:, None]),
        levels=np.array(LEVELS),
        budget=np.array([claim.budget for claim in claims]),
        weight=np.array([claim.weight for claim in claims]),
        floor=np.minimum(np.maximum([claim.floor_bytes_per_s for claim in claims], LEAST_BYTES_PER_S), ceiling),
        ceiling=ceiling,
    )
    place = {switch: k for k, switch in enumerate(capacity)}
    # where nothing leads away from a switch there is nothing to share
    ends = np.array([rate if rate > 0.0 else np.inf for rate in capacity.values()])
    passes = np.array([[place.get(asker.interface.place.switch, -1) for asker in askers]])
    given = np.where([asker.quantiles is None for asker in askers], ceiling, allotted(needs, passes, ends))
    given = np.maximum(given, np.minimum(LEAST_BYTES_PER_S, ceiling))
    return {
        asker.interface.address: _held(before.get(asker.interface.address, 0.0), amount)
        for asker, amount, most in zip(askers, given.tolist(), speed.tolist(), strict=True)
        if amount < most * (1.0 - STEADY_RATIO)
    }


def _held(before: float, amount: float) -> float:
    """A limit that is nearly what it was stays."""
    return before if abs(amount - before) <= STEADY_RATIO * before else amount
