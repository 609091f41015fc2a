"""Passes what a guest says on to everyone who listens, and what they say on to the guest."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from forestall.lab.guest_link import MAX_LINE_BYTES, LineReader

RETRY_SECONDS = 0.2
MAX_WAITING_BYTES = 1024 * 1024
"""What may wait for a client or a guest that does not read; a client is hung up on, a guest's command is lost."""


class Exchange:
    """The exchange of one guest.

    Parameters
    ----------
    port
        Unix socket of the guest's virtio-serial port.
    link
        Unix socket to offer.
    report_file
        Where the latest report is kept, for those who do not listen.
    """

    def __init__(self, port: Path, link: Path, report_file: Path) -> None:
        self.port, self.link, self.report_file = port, link, report_file
        self.report: dict[str, Any] | None = None
        self.reported_at = float("-inf")
        self._clients: set[asyncio.StreamWriter] = set()
        self._guest: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Pass on until cancelled; a guest that is gone is called again."""
        self.link.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self.link, limit=MAX_LINE_BYTES)
        async with server:
            while True:
                with suppress(OSError):
                    await self._listen()
                await asyncio.sleep(RETRY_SECONDS)

    def level(self) -> float:
        """Load level (0-1) that the guest last reported; 0 when it says nothing any more."""
        if self.report is None or time.monotonic() - self.reported_at > 10:
            return 0.0
        try:
            return min(1.0, max(0.0, float(self.report["load"]["level"])))
        except (KeyError, TypeError, ValueError):
            return 0.0

    def tell(self, command: dict[str, Any]) -> None:
        """Send the guest a command, if it is there and reads."""
        if self._guest is not None and self._guest.transport.get_write_buffer_size() < MAX_WAITING_BYTES:
            self._guest.write(_line(command))

    async def _listen(self) -> None:
        """Take in what the guest says until it hangs up."""
        reader, self._guest = await asyncio.open_unix_connection(self.port)
        lines = LineReader()
        try:
            while chunk := await reader.read(65536):
                for message in lines.feed(chunk):
                    self._take(message)
        finally:
            self._guest.close()
            self._guest = None

    def _take(self, message: dict[str, Any]) -> None:
        line = _line(message)
        if "sequence" in message:
            self.report, self.reported_at = message, time.monotonic()
            fresh = self.report_file.with_suffix(".new")
            fresh.write_bytes(line)
            fresh.replace(self.report_file)
        for client in list(self._clients):
            if client.transport.get_write_buffer_size() > MAX_WAITING_BYTES:
                client.transport.abort()
            else:
                client.write(line)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Take commands of a client until it hangs up."""
        self._clients.add(client)
        lines = LineReader()
        try:
            while chunk := await reader.read(65536):
                for command in lines.feed(chunk):
                    self.tell(command)
        except ConnectionError:
            pass  # it hung up in the middle: as good as at the end
        finally:
            self._clients.discard(client)
            client.close()


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
