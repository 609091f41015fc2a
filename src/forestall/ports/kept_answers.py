"""Answers to requests that may come again: who asks twice with the same key has it done once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

KEPT_SECONDS = 86_400.0


@dataclass(frozen=True)
class Answer:
    """What was answered; ``headers`` are those that belong to it."""

    status: int
    media_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """A request that came before; ``fingerprint`` says what it asked for. No answer: it has not ended."""

    fingerprint: str
    answer: Answer | None


class KeptAnswers(Protocol):
    """Keeps them for :data:`KEPT_SECONDS`. Errors are :class:`~forestall.model.errors.StoreError`."""

    def begin(self, caller: str, key: str, fingerprint: str, now: float) -> Kept | None:
        """What came before with this key; None if nothing did: then it is kept that this has begun."""
        ...

    def end(self, caller: str, key: str, answer: Answer) -> None:
        """Keep what was answered."""
        ...

    def forget(self, caller: str, key: str) -> None:
        """Nothing was done: it may be tried again with this key."""
        ...
