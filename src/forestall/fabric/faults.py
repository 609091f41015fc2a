"""What is wrong just now, by where it is; each is told once, and forgotten when it goes well there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from forestall.model.errors import FabricError, StoreError


class Faults:
    """The faults; ``note`` takes one line for the operator."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self.now: dict[str, str] = {}

    def found(self, where: str, what: str) -> None:
        """Something is wrong."""
        if self.now.get(where) != what:
            self._note(f"{where}: {what}")
        self.now[where] = what

    def mended(self, where: str) -> None:
        """It goes well there."""
        self.now.pop(where, None)

    def keep(self, kind: str, places: Collection[str]) -> None:
        """Of a kind of places, whose names begin so, all others go well."""
        for where in [where for where in self.now if where.startswith(kind) and where not in places]:
            self.mended(where)

    @contextmanager
    def minding(self, where: str) -> Iterator[None]:
        """Take an error of a switch, or of a file, for a fault; if there is none it goes well there."""
        try:
            yield
        except (FabricError, StoreError) as error:
            self.found(where, str(error))
        else:
            self.mended(where)
