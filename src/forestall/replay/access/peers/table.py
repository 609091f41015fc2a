"""A dictionary that forgets, so that no prefetcher grows without bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Table(OrderedDict[Key, Value]):
    """At most so many entries; the one that was not put for longest goes first.

    Parameters
    ----------
    limit
        How many.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def put(self, key: Key, value: Value) -> None:
        """Set an entry, and have it stay longest."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)

    def put_each(self, keys: Iterable[Key], value: Value) -> None:
        """Put some entries of the same value."""
        for key in keys:
            self[key] = value
            self.move_to_end(key)
        while len(self) > self._limit:
            self.popitem(last=False)
