"""Jobs in folders: ``jobs/NAME/job.json`` says what it is, and beside it is what it was given and what it wrote."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import msgspec

from forestall.adapters.files.writing import read_json, write_json
from forestall.model.errors import StoreError
from forestall.ports.job_book import Job

FOLDER, FILE = "jobs", "job.json"


class FileJobBook:
    """:class:`~forestall.ports.job_book.JobBook` in the folder of the API."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def read(self) -> tuple[Job, ...]:
        """As in the port."""
        found = []
        for path in self._folder.glob(f"*/{FILE}"):
            with suppress(StoreError, msgspec.ValidationError):
                job = msgspec.convert(read_json(path), Job)
                found += [job] if job.name == path.parent.name else []
        return tuple(sorted(found, key=lambda job: (job.created_at, job.name)))

    def write(self, job: Job) -> None:
        """As in the port."""
        write_json(self.folder(job.name) / FILE, asdict(job), private=True)

    def folder(self, name: str) -> Path:
        """As in the port."""
        return self._folder / name

    def sweep(self) -> None:
        """As in the port."""
        for folder in self._folder.glob("*"):
            if not (folder / FILE).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def size_bytes(self, name: str) -> int:
        """As in the port."""
        total = 0
        for path in self.folder(name).rglob("*"):
            with suppress(OSError):
                total += path.lstat().st_size
        return total

    def forget(self, name: str) -> None:
        """As in the port: ``job.json`` first, so that what is left half is no job."""
        folder = self.folder(name)
        try:
            (folder / FILE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be removed: {error.strerror}") from error
