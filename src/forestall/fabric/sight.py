"""What there is of a network, as far as it can be told from what is heard just now.

A switch that is not connected to us goes on as it was told: it is taken for there, and its links for what their other
ends say, until it has been away for so long that it may be dead. One to which VMs are connected is not given up: if it
is dead nothing helps them, and if it is not they must be reached. So nothing is torn down while switches come back one
by one, after we, or they, have been started anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from forestall.fabric.damping import Damping
from forestall.fabric.wiring import Wiring
from forestall.ports.fabric import Cable, FabricView, Place, Switch

AWAY_SECONDS = 15.0
"""So long a switch that no VM is connected to may be away."""


class Sight:
    """What has been seen.

    Parameters
    ----------
    switches, cables
        What was there before we were started.
    now
        Seconds, monotonic.
    note
        Takes one line for the operator.

    Attributes
    ----------
    away
        Switches that are taken for there, and are not connected to us.
    """

    def __init__(
        self, switches: Mapping[int, Switch], cables: Collection[Cable], now: float, note: Callable[[str], None]
    ) -> None:
        self._switches = dict(switches)
        self._cables = set(cables)
        self._seen_at = dict.fromkeys(switches, now)
        self._damping = Damping()
        self._note = note
        self.away: frozenset[int] = frozenset()

    def see(self, view: FabricView, now: float) -> tuple[FabricView, Wiring]:
        """What there is, and the links of it that are up and steady."""
        self._switches |= view.switches
        self._seen_at |= dict.fromkeys(view.switches, now)
        needed = {interface.place.switch for interface in view.interfaces}
        for number in self._switches.keys() - view.switches.keys() - needed:
            if now - self._seen_at[number] >= AWAY_SECONDS:
                self._note(f"switch {self._switches[number].name} is away, and is no longer counted on")
                del self._switches[number], self._seen_at[number]
        away = frozenset(self._switches.keys() - view.switches.keys())
        for number in away - self.away:
            self._note(f"switch {self._switches[number].name} is not connected")
        for number in self.away & view.switches.keys():
            self._note(f"switch {self._switches[number].name} is connected")
        self.away = away
        taken = {place for cable in view.cables for place in cable}
        # of two that want the same port one is of the past
        self._cables = {c for c in self._cables if taken.isdisjoint(c)} | set(view.cables)
        self._cables = {c for c in self._cables if {c.one.switch, c.other.switch} <= self._switches.keys()}
        usable = self._usable({cable: self._is_up(cable, view) for cable in self._cables}, now)
        whole = replace(view, switches=dict(sorted(self._switches.items())), cables=tuple(sorted(self._cables)))
        return whole, Wiring.of(self._switches, usable)

    def suppressed(self) -> frozenset[Cable]:
        """Links that are left out because they come and go."""
        return self._damping.suppressed()

    def _is_up(self, cable: Cable, view: FabricView) -> bool:
        away = self.away & {cable.one.switch, cable.other.switch}
        if not all(place.switch in away or view.is_up(place) for place in cable):
            return False
        return cable in view.cables or bool(away)

    def _usable(self, up: dict[Cable, bool], now: float) -> frozenset[Cable]:
        before = self._damping.suppressed()
        usable = self._damping.usable(up, now)
        after = self._damping.suppressed()
        for cable in after - before:
            self._note(f"{self._shown(cable)} comes and goes, and is not used until it is steady")
        for cable in before - after:
            self._note(f"{self._shown(cable)} is steady again")
        return usable

    def _shown(self, cable: Cable) -> str:
        return f"the link between {self._port(cable.one)} and {self._port(cable.other)}"

    def _port(self, place: Place) -> str:
        switch = self._switches[place.switch]
        port = switch.ports.get(place.port)
        return f"{switch.name}:{port.name if port is not None else place.port}"
