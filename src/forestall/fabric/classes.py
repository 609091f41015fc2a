"""Classes of traffic: what each application's packets are marked with, and what each class is guaranteed at a port.

A guarantee is what a class gets of a port when all want more than there is; what one does not use the others share.
Sources: RFC 4594 (configuration guidelines for DiffServ), RFC 8622 (lower effort).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from forestall.ports.fabric import PortQueues, Queue


class TrafficClass(StrEnum):
    """How traffic is treated."""

    LATENCY_SENSITIVE = "latency-sensitive"
    INTERACTIVE = "interactive"
    BULK = "bulk"
    BACKGROUND = "background"


DSCP = {
    TrafficClass.LATENCY_SENSITIVE: 46,
    TrafficClass.INTERACTIVE: 18,
    TrafficClass.BULK: 0,
    TrafficClass.BACKGROUND: 1,
}
"""Expedited forwarding, AF21, default forwarding, lower effort."""
GUARANTEE = {
    TrafficClass.BULK: 0.25,
    TrafficClass.LATENCY_SENSITIVE: 0.30,
    TrafficClass.INTERACTIVE: 0.40,
    TrafficClass.BACKGROUND: 0.05,
}
"""Shares of a port. What nobody has classified is bulk: its queue is the first, which takes what no other does."""
CLASS_OF = {
    "cache": TrafficClass.LATENCY_SENSITIVE,
    "database": TrafficClass.LATENCY_SENSITIVE,
    "web": TrafficClass.INTERACTIVE,
    "streaming": TrafficClass.INTERACTIVE,
    "batch": TrafficClass.BACKGROUND,
}
"""Of an application, where no policy says otherwise; of any other: bulk."""


def class_of(application: str) -> TrafficClass:
    """The class of what an application sends."""
    return CLASS_OF.get(application, TrafficClass.BULK)


def queues_of(bytes_per_s: float, guarantee: Mapping[TrafficClass, float] = GUARANTEE) -> PortQueues:
    """Queues of a port that sends so fast: one for each class, which may use all that the others leave."""
    rate = int(bytes_per_s)
    return PortQueues(
        rate,
        tuple(Queue((DSCP[each],), max(int(rate * share), 1), rate) for each, share in guarantee.items()),
    )
