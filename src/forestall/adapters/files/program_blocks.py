"""What programs of trust groups read from disks, each in a file of its own; the oldest go when there are too many."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import msgspec

from forestall.adapters.files.writing import read_json, write_json
from forestall.model.errors import StoreError
from forestall.staging.block_asked import ProgramBlocks
from forestall.staging.ledger import Group

FOLDER, MOST_PROGRAMS = "program-blocks", 200


class FilePrograms:
    """A :class:`~forestall.staging.block_asked.Programs` in a state folder.

    Parameters
    ----------
    folder
        State folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def read(self, group: Group, program: str) -> ProgramBlocks | None:
        """What is known."""
        path = self._path(group, program)
        found = read_json(path)
        if found is None:
            return None
        try:
            blocks = msgspec.convert(found["blocks"], ProgramBlocks)
        except (msgspec.ValidationError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: is damaged: {error}") from error
        if not len(blocks.path) == len(blocks.number) == len(blocks.unread):
            raise StoreError(f"{path}: is damaged: its columns differ in length")
        if blocks.path and not 0 <= min(blocks.path) <= max(blocks.path) < len(blocks.paths):
            raise StoreError(f"{path}: is damaged: a block is of no file")
        return blocks

    def write(self, group: Group, program: str, blocks: ProgramBlocks) -> None:
        """Keep it; the longest not written go where there are too many."""
        said = {"group": group.name, "program": program, "blocks": asdict(blocks)}
        write_json(self._path(group, program), said)
        with suppress(OSError):
            self._folder.chmod(0o700)
            files = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for file in files[:-MOST_PROGRAMS]:
                file.unlink()

    def _path(self, group: Group, program: str) -> Path:
        words = "\n".join((group.name, group.generation, program))
        return self._folder / f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.json"
