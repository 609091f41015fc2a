"""A line to a guest of the lab: its latest report, commands to it, and waiting for something to become true.

What comes from a guest is believed no further than that it is a JSON object of at most ``MAX_LINE_BYTES``; everything
else is dropped and counted.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forestall.model.errors import HypervisorError

MAX_LINE_BYTES = 64 * 1024
ANSWER_SECONDS = 10.0
Message = Mapping[str, Any]


class LineReader:
    """Cuts a stream of bytes into JSON objects, a line each; ``dropped`` counts the lines that are none."""

    def __init__(self) -> None:
        self.dropped = 0
        self._buffer = b""
        self._oversized = False

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Objects that are whole with ``chunk``."""
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        messages = []
        for line in lines:
            message = None if self._oversized or len(line) > MAX_LINE_BYTES else _parsed(line)
            self._oversized = False
            if message is not None:
                messages.append(message)
            elif line.strip():
                self.dropped += 1
        if len(self._buffer) > MAX_LINE_BYTES:
            self._oversized, self._buffer = True, b"x"
        return messages


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


class GuestLink:
    """A connection to a guest by the lab's attendant. Use it in a ``with``.

    Parameters
    ----------
    path
        Unix socket of the guest's link (``Lab.link`` knows it).
    deadline_seconds
        How long to wait for the socket to be there.

    Raises
    ------
    HypervisorError
        By every method: the other end is gone, or something did not come in time.
    """

    def __init__(self, path: Path, deadline_seconds: float = 10.0) -> None:
        self.path = path
        self.report: dict[str, Any] | None = None
        self.reported_at = float("-inf")
        self._awaited: str | None = None
        self._answer: dict[str, Any] | None = None
        self._reader = LineReader()
        self._identities = (f"{os.getpid()}-{id(self):x}-{number}" for number in itertools.count())
        self._socket = _connected(path, deadline_seconds)

    @property
    def dropped(self) -> int:
        """Lines that were no JSON objects, or too long."""
        return self._reader.dropped

    def age_seconds(self) -> float:
        """How long ago the latest report came; infinite when none came yet."""
        return time.monotonic() - self.reported_at

    def latest(self, deadline_seconds: float = 10.0) -> dict[str, Any]:
        """The newest report; waits for the first."""
        self._read(0)
        return self.wait(lambda report: True, deadline_seconds) if self.report is None else self.report

    def fresh(self, deadline_seconds: float = 10.0) -> dict[str, Any]:
        """A report that comes after this call."""
        self._read(0)
        called_at = time.monotonic()
        return self.wait(lambda _: self.reported_at > called_at, deadline_seconds)

    def wait(
        self, condition: Callable[[dict[str, Any]], object], deadline_seconds: float, what: str = ""
    ) -> dict[str, Any]:
        """Wait for a report that ``condition`` holds for, and return it; ``what`` names it in the error."""
        deadline = time.monotonic() + deadline_seconds
        while self.report is None or not condition(self.report):
            if (left := deadline - time.monotonic()) <= 0:
                raise HypervisorError(f"{self.path}: {what or 'no such report'} in {deadline_seconds:.0f} s")
            self._read(left)
        return self.report

    def send(self, command: Message) -> None:
        """Send a command without waiting for what comes of it."""
        try:
            self._socket.sendall(json.dumps(command, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise HypervisorError(f"{self.path}: {error}") from error

    def ask(self, command: Message, deadline_seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Send a command and return what came of each part of it; the guest's refusal is an error."""
        self._awaited, self._answer = next(self._identities), None
        self.send({**command, "id": self._awaited})
        deadline = time.monotonic() + deadline_seconds
        while self._answer is None:
            if (left := deadline - time.monotonic()) <= 0:
                raise HypervisorError(f"{self.path}: no answer to {dict(command)} in {deadline_seconds:.0f} s")
            self._read(left)
        if "error" in self._answer:
            raise HypervisorError(f"{self.path}: {dict(command)}: {self._answer['error']}")
        result = self._answer.get("result")
        return result if isinstance(result, dict) else {}

    def close(self) -> None:
        """Hang up; may be called twice."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, timeout_seconds: float) -> None:
        """Take in what has come, waiting for it at most so long."""
        while select.select([self._socket], [], [], timeout_seconds)[0]:
            try:
                chunk = self._socket.recv(65536)
            except OSError as error:
                raise HypervisorError(f"{self.path}: {error}") from error
            if not chunk:
                raise HypervisorError(f"{self.path}: the other end hung up")
            for message in self._reader.feed(chunk):
                self._take(message)
            timeout_seconds = 0

    def _take(self, message: dict[str, Any]) -> None:
        if "answer" in message:
            if self._awaited is not None and message["answer"] == self._awaited:
                self._awaited, self._answer = None, message
        elif "sequence" in message:
            self.report, self.reported_at = message, time.monotonic()


def _connected(path: Path, deadline_seconds: float) -> socket.socket:
    deadline = time.monotonic() + deadline_seconds
    while True:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.connect(str(path))
            return line
        except OSError as error:
            line.close()
            if time.monotonic() > deadline:
                raise HypervisorError(f"{path}: {error}") from error
            time.sleep(0.05)
