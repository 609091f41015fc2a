"""Serves an ASGI application to whoever comes, over HTTPS or, at this machine's own addresses, over HTTP."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from forestall.adapters.https.contexts import why
from forestall.adapters.https.server import configured
from forestall.model.errors import BadInput

HEAD_SECONDS = 10.0
"""The first line and the headers of a request must be there within so long."""
LOOK_SECONDS = 30.0
Files = tuple[Path, Path]


class PatientProtocol(H11Protocol):
    """HTTP/1.1, with an end to patience: who does not say what they want is let go."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._hurry()

    def data_received(self, data: bytes) -> None:
        """Take in a part; a request that has begun must say what it wants in time."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._wait_no_more()
        elif before is None or before.response_complete:
            self._hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _hurry(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Certificates:
    """Certificate (with its chain) and key of a server.

    Parameters
    ----------
    files
        Both.

    Raises
    ------
    BadInput
        They cannot be used.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = _changed_at(files)
        self._load()

    def follow(self, note: Callable[[str], None]) -> None:
        """Take up files that are renewed from now on, in a thread, for all connections to come."""
        threading.Thread(target=self._follow, args=(note,), name="certificates", daemon=True).start()

    def _load(self) -> None:
        try:
            self.context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"cannot be used: {why(error)}", path=" and ".join(map(str, self._files))) from error

    def _follow(self, note: Callable[[str], None]) -> None:
        """Files that cannot be used, half written perhaps, are tried again with each look, and told of once."""
        pause, refused = threading.Event(), self._seen
        while not pause.wait(LOOK_SECONDS):
            if (changed := _changed_at(self._files)) != self._seen:
                try:
                    self._load()
                    self._seen = changed
                    note("the API's certificate was read anew")
                except BadInput as error:
                    if changed != refused:
                        note(str(error))
                    refused = changed


def open_server(application: Any, certificates: Certificates | None = None) -> uvicorn.Server:
    """A server that is run with ``run([socket])`` and ends when its ``should_exit`` is set.

    Parameters
    ----------
    application
        What it serves.
    certificates
        For TLS; None: plain HTTP.
    """
    return configured(application, PatientProtocol, certificates.context if certificates else None)


def _changed_at(files: Files) -> tuple[float, ...]:
    found = []
    for path in files:
        with suppress(OSError):  # it is just being replaced
            found.append(path.stat().st_mtime)
    return tuple(found)
