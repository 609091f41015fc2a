"""A link that comes and goes is left out until it has been steady for a while.

Each time that it goes down counts, and what has been counted fades. Above one threshold it is not used, up or not,
until the count has faded below another: as routers do with routes that flap. A link that goes down once is used again
as soon as it is back.

Source: Villamizar, Chandra and Govindan, BGP Route Flap Damping, RFC 2439 (1998); the figures are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forestall.ports.fabric import Cable

HALF_LIFE_SECONDS = 15.0
SUPPRESS, REUSE, MOST = 2.5, 1.0, 8.0
"""Counts: the third time within seconds it is left out; for a minute at the most after it has come back."""


@dataclass
class _Link:
    up: bool
    count: float = 0.0
    at: float = 0.0
    suppressed: bool = False


@dataclass
class Damping:
    """What has been seen of links."""

    _links: dict[Cable, _Link] = field(default_factory=dict)

    def usable(self, up: dict[Cable, bool], now: float) -> frozenset[Cable]:
        """Links that are up and steady.

        Parameters
        ----------
        up
            Whether each link is up now; one that is missing is forgotten.
        now
            Seconds.
        """
        self._links = {cable: self._links.get(cable, _Link(is_up, at=now)) for cable, is_up in up.items()}
        for cable, is_up in up.items():
            link = self._links[cable]
            link.count *= 0.5 ** ((now - link.at) / HALF_LIFE_SECONDS)
            link.at = now
            if link.up and not is_up:
                link.count = min(link.count + 1.0, MOST)
            link.up = is_up
            if link.count >= SUPPRESS:
                link.suppressed = True
            elif link.count < REUSE:
                link.suppressed = False
        return frozenset(cable for cable, link in self._links.items() if link.up and not link.suppressed)

    def suppressed(self) -> frozenset[Cable]:
        """Links that are left out because they come and go."""
        return frozenset(cable for cable, link in self._links.items() if link.suppressed)
