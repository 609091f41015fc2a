"""Who is told of events, and where."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Webhook:
    """One of them.

    Attributes
    ----------
    name, url
        What it is called, and where a POST goes.
    kinds
        Of events that it is told.
    groups
        Trust groups of whose VMs it is told; None: of all.
    secret
        What is sent is signed with it.
    by, created_at
        Who has asked for it, and when, seconds UTC.
    """

    name: str
    url: str
    kinds: tuple[str, ...]
    groups: tuple[str, ...] | None
    secret: str
    by: str
    created_at: float


class WebhookBook(Protocol):
    """Keeps webhooks; errors are :class:`~forestall.model.errors.StoreError`."""

    def read(self) -> Mapping[str, Webhook]:
        """All by name."""
        ...

    def changing(self) -> AbstractContextManager[dict[str, Webhook]]:
        """All by name, to be changed in the block; kept when it ends without an error."""
        ...
