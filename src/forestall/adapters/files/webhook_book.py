"""Webhooks in a file: ``{"version": 1, "webhooks": {NAME: {"url": ..., "secret": ..., ...}}}``, for its owner alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from forestall.adapters.files.writing import read_versioned, write_json
from forestall.ports.webhook_book import Webhook

NAME, VERSION = "webhooks.json", 1


class FileWebhookBook:
    """:class:`~forestall.ports.webhook_book.WebhookBook` in the folder of the API, which alone uses it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._turn = threading.Lock()

    def read(self) -> Mapping[str, Webhook]:
        """As in the port."""
        return read_versioned(self._path, VERSION, "webhooks", dict[str, Webhook]) or {}

    @contextmanager
    def changing(self) -> Iterator[dict[str, Webhook]]:
        """As in the port."""
        with self._turn:
            webhooks = dict(self.read())
            yield webhooks
            plain = {name: asdict(each) for name, each in webhooks.items()}
            write_json(self._path, {"version": VERSION, "webhooks": plain}, private=True)
