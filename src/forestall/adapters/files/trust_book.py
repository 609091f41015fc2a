"""Trust groups in a file: ``{"version": 1, "groups": {NAME: {"members": [...], "shadowing": ..., ...}}}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import msgspec

from forestall.adapters.files.writing import read_json, write_json
from forestall.model.errors import StoreError
from forestall.ports.trust_book import GroupTerms

NAME, VERSION = "trust-groups.json", 1


class FileTrustBook:
    """:class:`~forestall.ports.trust_book.TrustBook` in a state folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def read(self) -> Mapping[str, GroupTerms]:
        """As in the port."""
        found = read_json(self._path)
        if found is None:
            return {}
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise StoreError(f"{self._path}: is damaged, or of another version of Forestall")
        try:
            return msgspec.convert(found["groups"], dict[str, GroupTerms])
        except (KeyError, msgspec.ValidationError) as error:
            raise StoreError(f"{self._path}: is damaged: {error}") from error

    def write(self, groups: Mapping[str, GroupTerms]) -> None:
        """As in the port."""
        write_json(self._path, {"version": VERSION, "groups": {name: asdict(terms) for name, terms in groups.items()}})
