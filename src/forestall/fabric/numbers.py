"""Numbers for paths, groups and meters: a thing keeps its number for as long as it is in use."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import StrEnum

from forestall.model.errors import WrongUse
from forestall.model.switching import FIRST_GROUP, FIRST_METER, LAST_GROUP, LAST_METER


class Numbered(StrEnum):
    """What has numbers."""

    PATH = "path"
    HOST = "host"
    GROUP = "group"
    METER = "meter"


RANGES = {
    Numbered.PATH: (1, 0xFFFFFF),
    Numbered.HOST: (1, 0xFFFF),
    Numbered.GROUP: (FIRST_GROUP, LAST_GROUP),
    Numbered.METER: (FIRST_METER, LAST_METER),
}


class Numbers:
    """Who has which number.

    A number that is free again is given to nobody until all others have been: what is on its way still belongs to who
    had it before.

    Parameters
    ----------
    known
        For each kind, numbers by name.
    luck
        From 0 to 1: where numbers begin if none are known. Switches may still know others that we have forgotten.
    """

    def __init__(self, known: Mapping[str, Mapping[str, int]] | None = None, luck: float = 0.0) -> None:
        self._of: dict[Numbered, dict[str, int]] = {kind: {} for kind in Numbered}
        self._taken: dict[Numbered, set[int]] = {kind: set() for kind in Numbered}
        for kind in Numbered:
            first, last = RANGES[kind]
            for name, number in (known or {}).get(kind, {}).items():
                if first <= number <= last and number not in self._taken[kind]:
                    self._of[kind][name] = number
                    self._taken[kind].add(number)
        self._next = {kind: self._first(kind, luck) for kind in Numbered}

    def _first(self, kind: Numbered, luck: float) -> int:
        first, last = RANGES[kind]
        return max(self._of[kind].values(), default=first + int(luck * (last - first)) - 1) + 1

    def of(self, kind: Numbered, name: str) -> int:
        """The number of something, a new one if it has none.

        Raises
        ------
        WrongUse
            None is left.
        """
        found = self._of[kind].get(name)
        return found if found is not None else self._new(kind, name)

    def _new(self, kind: Numbered, name: str) -> int:
        first, last = RANGES[kind]
        taken = self._taken[kind]
        if len(taken) > last - first:
            raise WrongUse(f"the network has more than {last - first + 1} of what is a {kind}")
        number = self._next[kind]
        while number > last or number in taken:
            number = first if number > last else number + 1
        taken.add(number)
        self._of[kind][name] = number
        self._next[kind] = number + 1
        return number

    def keep(self, kind: Numbered, names: Set[str]) -> None:
        """Let go of all others."""
        if self._of[kind].keys() == names:
            return
        kept = {name: number for name, number in self._of[kind].items() if name in names}
        self._of[kind], self._taken[kind] = kept, set(kept.values())

    def known(self) -> dict[str, dict[str, int]]:
        """All, so that they can be written down."""
        return {kind.value: dict(names) for kind, names in self._of.items()}
