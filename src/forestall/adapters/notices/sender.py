"""Notices as webhooks, signed, or as lines to a socket of this host; tried again with growing pauses.

A webhook is a POST of JSON with the header ``X-Forestall-Signature: sha256=HEX``, the HMAC-SHA256 (RFC 2104) of its
body, as GitHub and others sign theirs; any answer of 2xx means that it was taken. To a socket goes one line of JSON.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

SIGNATURE = "X-Forestall-Signature"
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Before each further attempt."""
MOST_WAITING = 1024
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, order=True)
class _Notice:
    """What is to be sent, from when on; the earlier asked for, the earlier of those that are due at once."""

    due: float
    number: int
    target: str = field(compare=False)
    body: bytes = field(compare=False)
    attempt: int = field(default=0, compare=False)


class NoticeThread:
    """Sends in a thread of its own; see :class:`~forestall.ports.notices.NoticeSender`.

    Parameters
    ----------
    key
        What webhooks are signed with.
    note
        Takes one line for the operator when a notice is given up.
    pauses_seconds
        Before each further attempt.
    """

    def __init__(
        self, key: bytes, note: Callable[[str], None], pauses_seconds: tuple[float, ...] = PAUSES_SECONDS
    ) -> None:
        self._key, self._note, self._pauses_seconds = key, note, pauses_seconds
        self._waiting: list[_Notice] = []
        self._turn = threading.Condition()
        self._numbers = itertools.count()
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def send(self, target: str, notice: Mapping[str, Any]) -> None:
        """As in the port."""
        body = json.dumps(notice, separators=(",", ":")).encode()
        self._put(_Notice(time.monotonic(), next(self._numbers), target, body))

    def close(self, patience_seconds: float = 2 * ANSWER_SECONDS) -> None:
        """Take nothing more; what waits is tried once within so long, and then given up."""
        with self._turn:
            self._ends_at = time.monotonic() + patience_seconds
            self._turn.notify_all()
        if self._thread.is_alive():
            self._thread.join(patience_seconds)

    def _put(self, notice: _Notice) -> None:
        with self._turn:
            fits = len(self._waiting) < MOST_WAITING and self._ends_at is None
            if fits:
                heapq.heappush(self._waiting, notice)
                self._turn.notify_all()
        if not fits:
            self._note(f"{notice.target} is not told: too many notices wait, or it ends")

    def _next(self) -> _Notice | None:
        """The next that is due; None: it has ended."""
        with self._turn:
            while True:
                now = time.monotonic()
                ending = self._ends_at is not None
                if ending and (not self._waiting or now >= (self._ends_at or 0.0)):
                    return None
                if self._waiting and (ending or self._waiting[0].due <= now):
                    return heapq.heappop(self._waiting)
                self._turn.wait(self._waiting[0].due - now if self._waiting else None)

    def _run(self) -> None:
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
            while (notice := self._next()) is not None:
                try:
                    self._deliver(client, notice)
                except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
                    self._again(notice, str(error) or type(error).__name__)

    def _again(self, notice: _Notice, why: str) -> None:
        """Try again later, without keeping the others waiting."""
        if notice.attempt >= len(self._pauses_seconds) or self._ends_at is not None:
            self._note(f"{notice.target} was not told: {why}")
            return
        due = time.monotonic() + self._pauses_seconds[notice.attempt]
        self._put(replace(notice, due=due, attempt=notice.attempt + 1))

    def _deliver(self, client: httpx.Client, notice: _Notice) -> None:
        if notice.target.startswith("unix:"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
                server.settimeout(ANSWER_SECONDS)
                server.connect(notice.target.removeprefix("unix:"))
                server.sendall(notice.body + b"\n")
            return
        signature = "sha256=" + hmac.new(self._key, notice.body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", SIGNATURE: signature}
        with client.stream("POST", notice.target, content=notice.body, headers=headers) as answer:
            answer.raise_for_status()  # what else it says is not listened to: it may be without end
