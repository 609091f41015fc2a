"""Versions of policies in a folder: ``versions.json``, and ``000001.toml``, ``000002.toml``, ... as they were given."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from forestall.adapters.files.writing import read_versioned, write_file, write_json
from forestall.model.errors import StoreError
from forestall.ports.policy_book import PolicyVersion

FOLDER, INDEX, VERSION = "policies", "versions.json", 1


class FilePolicyBook:
    """:class:`~forestall.ports.policy_book.PolicyBook` in a state folder; one process writes, others may read."""

    def __init__(self, state_folder: Path) -> None:
        self._folder = state_folder / FOLDER

    def versions(self) -> tuple[PolicyVersion, ...]:
        """As in the port."""
        return tuple(read_versioned(self._folder / INDEX, VERSION, "versions", list[PolicyVersion]) or ())

    def text(self, version: PolicyVersion) -> str:
        """As in the port; a text that is not the one that was kept is an error."""
        path = self.path(version)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != version.digest:
            raise StoreError(f"{path}: is not as it was kept")
        return data.decode()

    def path(self, version: PolicyVersion) -> Path:
        """The file of a version."""
        return self._folder / f"{version.number:06d}.toml"

    def add(self, version: PolicyVersion, text: str) -> None:
        """As in the port: the text first, so that every version that is named has one."""
        write_file(self.path(version), text.encode())
        versions = [asdict(each) for each in (*self.versions(), version)]
        write_json(self._folder / INDEX, {"version": VERSION, "versions": versions})
