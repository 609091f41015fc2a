"""Reading the tables of a policy document: every key is known, every value is read, every error has a place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from forestall.demand.policy_values import Reader, hint, shown
from forestall.model.errors import BadPolicy


@dataclass(frozen=True)
class Place:
    """Where something stands in a policy file.

    Attributes
    ----------
    table
        Header of the table: ``rule``, ``rule.calendar``, ``groups``; empty for the top of the file.
    index
        Which of the rules, from 0.
    words
        What to call the place in a message; may be empty.
    key
        The key in the table; None for the table itself.
    """

    table: str
    index: int = 0
    words: str = ""
    key: str | None = None


class PolicyProblem(BadPolicy):
    """A policy document is wrong at ``place``; whoever knows the file says in which line that is."""

    def __init__(self, what: str, place: Place) -> None:
        super().__init__(f"{place.words}: {what}" if place.words else what)
        self.place = place


def read_table(table: object, readers: Mapping[str, Reader], place: Place) -> dict[str, Any]:
    """Read all the keys of a table; a key without a reader is an error."""
    if not isinstance(table, dict):
        raise PolicyProblem(f"must be a table, not {shown(table)}", place)
    refuse_unknown(table, readers, place)
    return read_values(table, readers, place)


def refuse_unknown(table: Mapping[str, Any], known: Collection[str], place: Place) -> None:
    """Raise for the first key that is not known."""
    for key in table:
        if key not in known:
            raise PolicyProblem(f"unknown key {shown(key)}{hint(key, known)}", replace(place, key=key))


def read_values(table: Mapping[str, Any], readers: Mapping[str, Reader], place: Place) -> dict[str, Any]:
    """Read those keys of a table that have a reader, in the order of the file."""
    found = {}
    for key, value in table.items():
        if key in readers:
            try:
                found[key] = readers[key](value)
            except ValueError as error:
                raise PolicyProblem(f"{key} {error}", replace(place, key=key)) from error
    return found
