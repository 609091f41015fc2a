"""What switches were told, as far as it is known, and telling them more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from forestall.fabric.changes import Step, Steps, after, steps
from forestall.fabric.faults import Faults
from forestall.fabric.rules import paths_laid, without_paths
from forestall.model.errors import FabricError
from forestall.model.switching import Rules
from forestall.ports.fabric import Fabric, Switch

SWITCHES = "switches"


@dataclass
class _Told:
    connection: int
    rules: Rules


class Telling:
    """Tells switches.

    Parameters
    ----------
    fabric
        The switches.
    faults
        Takes what goes wrong.
    sleep, drain_seconds
        Waits until what is on its way has arrived.
    laid_before
        Numbers of the paths that switches knew when we were started, as far as we remember.
    """

    def __init__(
        self,
        fabric: Fabric,
        faults: Faults,
        sleep: Callable[[float], None],
        drain_seconds: float,
        laid_before: Collection[int],
    ) -> None:
        self._fabric, self._faults, self._sleep, self._drain_seconds = fabric, faults, sleep, drain_seconds
        self._laid_before = frozenset(laid_before)
        self._told: dict[int, _Told] = {}
        self._away: frozenset[int] = frozenset()
        self._turns = 0
        self.changes = 0

    def see(self, switches: Mapping[int, Switch], away: frozenset[int]) -> None:
        """Ask switches that have connected anew, or refused something, what they do; those that are away go on."""
        self._away = away
        self._told = {
            number: told
            for number, told in self._told.items()
            if number in switches and switches[number].connection == told.connection
        }
        self._faults.keep("switch ", {f"switch {switch.name}" for switch in switches.values()})
        for number, switch in switches.items():
            if number not in self._told and number not in away:
                with self._faults.minding(f"switch {switch.name}"):
                    self._told[number] = _Told(switch.connection, self._fabric.rules(number))

    def knows(self, switches: Collection[int]) -> bool:
        """Whether it is known what these do."""
        return self._told.keys() >= set(switches)

    def count(self, switch: int) -> int:
        """How many rules of ours a switch has, as far as it is known."""
        return len(self._told[switch].rules) if switch in self._told else 0

    def steps(self, wanted: Mapping[int, Rules]) -> Steps:
        """What must be changed; along paths through switches that are away and do not know of them nothing is sent."""
        untold = self._untold(wanted)
        reached = self._told.keys() - self._away
        wanted = {s: without_paths(rules, untold) for s, rules in wanted.items() if s in reached}
        return steps({switch: self._told[switch].rules for switch in wanted}, wanted)

    def _untold(self, wanted: Mapping[int, Rules]) -> set[int]:
        untold: set[int] = set()
        for switch in self._away & wanted.keys():
            paths = paths_laid(wanted[switch].flows.values())
            told = self._told.get(switch)
            untold |= paths - (self._laid_before if told is None else paths_laid(told.rules.flows.values()))
        return untold

    def nothing(self) -> dict[int, Rules]:
        """No rules, for each switch that has any."""
        return {switch: Rules() for switch in self._told}

    def carry_out(self, three: Steps) -> None:
        """Have changes made, step by step."""
        for number, step in enumerate(three):
            if not step:
                continue
            if number == len(three) - 1 and three[1]:
                self._sleep(self._drain_seconds)
            if not self._tell(step):
                return  # the next step would send packets along paths that are not all there
        self._faults.mended(SWITCHES)

    def _tell(self, step: Step) -> bool:
        """Have switches make changes; whether they did."""
        self.changes += sum(map(len, step.values()))
        try:
            self._fabric.change(step)
        except FabricError as error:
            self._faults.found(SWITCHES, str(error))
            for switch in step:  # which of the changes were made is asked the next time
                self._told.pop(switch, None)
            return False
        for switch, changes in step.items():
            self._told[switch].rules = after(self._told[switch].rules, changes)
        return True

    def look_again(self, name_of: Callable[[int], str]) -> str:
        """See whether one switch, another each time, still does what it was told; its name if not."""
        reached = sorted(self._told.keys() - self._away)
        if not reached:
            return ""
        switch = reached[self._turns % len(reached)]
        self._turns += 1
        with self._faults.minding(f"switch {name_of(switch)}"):
            rules = self._fabric.rules(switch)
            if rules != self._told[switch].rules:
                self._told[switch].rules = rules
                return name_of(switch)
        return ""
