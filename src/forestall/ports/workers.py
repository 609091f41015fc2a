"""Who computes what takes long: processes of this machine, or of many."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

Progress = Callable[[str, int, int], None]
"""Called with the name of a task, the steps done since the last call and the steps in all."""


class Future(Protocol):
    """What a task will have come to."""

    def done(self) -> bool:
        """Whether it has ended."""
        ...


class Workers(AbstractContextManager["Workers"], Protocol):
    """Runs tasks, and passes on how far they are. When the block is left with an error, what runs is given up."""

    def submit(self, name: str, steps: int, task: Callable[..., Any], *arguments: Any) -> Future:
        """Start ``task(*arguments, tick)``; it calls ``tick`` with the steps that it has done since it last did."""
        ...

    def result(self, future: Any) -> Any:
        """Wait for a task, passing on the progress of all; its error is raised here."""
        ...
