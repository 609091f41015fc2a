"""Trust groups in a file: ``{"version": 1, "groups": {NAME: {"members": [...], "shadowing": ..., ...}}}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from forestall.adapters.files.writing import read_versioned, write_json
from forestall.ports.trust_book import GroupTerms

NAME, VERSION = "trust-groups.json", 1


class FileTrustBook:
    """:class:`~forestall.ports.trust_book.TrustBook` in a state folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def read(self) -> Mapping[str, GroupTerms]:
        """As in the port."""
        return read_versioned(self._path, VERSION, "groups", dict[str, GroupTerms]) or {}

    def write(self, groups: Mapping[str, GroupTerms]) -> None:
        """As in the port."""
        write_json(self._path, {"version": VERSION, "groups": {name: asdict(terms) for name, terms in groups.items()}})
