"""What runs beside the API for minutes: replays of what was recorded, each with a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class JobState(StrEnum):
    """How far it is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes
    ----------
    name
        Made up; its folder has it, too.
    kind, asked
        What is to be done, and with what.
    by
        Who has asked for it.
    created_at, began_at, ended_at
        Instants, seconds UTC; None: not yet.
    begun
        How often it was begun: a job whose process was ended from outside is begun again, but not for ever.
    why
        Why it failed, in one line.
    """

    name: str
    kind: str
    asked: Mapping[str, Any]
    by: str
    created_at: float
    state: JobState = JobState.WAITING
    began_at: float | None = None
    ended_at: float | None = None
    begun: int = 0
    why: str = ""


class CutOff(Exception):
    """A job was ended from outside, and may be begun again."""


class JobBook(Protocol):
    """Keeps jobs.

    Raises
    ------
    StoreError
        It cannot be read or written.
    """

    def read(self) -> tuple[Job, ...]:
        """All there are, the oldest first; what is damaged is left out."""
        ...

    def write(self, job: Job) -> None:
        """Keep one, or what has become of it; its folder is there on return."""
        ...

    def folder(self, name: str) -> Path:
        """Its folder."""
        ...

    def sweep(self) -> None:
        """Remove folders of jobs that were never kept; nothing may be prepared meanwhile."""
        ...

    def size_bytes(self, name: str) -> int:
        """What its folder takes."""
        ...

    def forget(self, name: str) -> None:
        """Remove it and all that it has written."""
        ...
