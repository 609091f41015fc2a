"""Notices as webhooks, signed, or as lines to a socket of this host; tried again with growing pauses.

A webhook is a POST of JSON with the header ``X-Forestall-Signature: sha256=HEX``, the HMAC-SHA256 (RFC 2104) of its
body, as GitHub and others sign theirs; any answer of 2xx means that it was taken. To a socket goes one line of JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx

SIGNATURE = "X-Forestall-Signature"
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Before each further attempt."""
MOST_WAITING = 1024
ANSWER_SECONDS = 5.0


class _Notice(NamedTuple):
    target: str
    body: bytes
    attempt: int = 0


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
        self._waiting: queue.Queue[_Notice | None] = queue.Queue(MOST_WAITING)
        self._timers: set[threading.Timer] = set()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._closed = False

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def send(self, target: str, notice: Mapping[str, Any]) -> None:
        """As in the port."""
        self._put(_Notice(target, json.dumps(notice, separators=(",", ":")).encode()))

    def close(self) -> None:
        """Send no more; what waits is tried once."""
        self._closed = True
        for timer in tuple(self._timers):
            timer.cancel()
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(2 * ANSWER_SECONDS)

    def _put(self, notice: _Notice) -> None:
        try:
            self._waiting.put_nowait(notice)
        except queue.Full:
            self._note(f"{notice.target} is not told: too many notices wait")

    def _run(self) -> None:
        while (notice := self._waiting.get()) is not None:
            try:
                self._deliver(notice)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
                self._again(notice, str(error) or type(error).__name__)

    def _again(self, notice: _Notice, why: str) -> None:
        """Try again later, without keeping the others waiting."""
        if notice.attempt >= len(self._pauses_seconds) or self._closed:
            self._note(f"{notice.target} was not told: {why}")
            return
        later = notice._replace(attempt=notice.attempt + 1)

        def put() -> None:
            self._timers.discard(timer)
            self._put(later)

        timer = threading.Timer(self._pauses_seconds[notice.attempt], put)
        timer.daemon = True
        self._timers.add(timer)
        timer.start()

    def _deliver(self, notice: _Notice) -> None:
        if notice.target.startswith("unix:"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(ANSWER_SECONDS)
                client.connect(notice.target.removeprefix("unix:"))
                client.sendall(notice.body + b"\n")
            return
        signature = "sha256=" + hmac.new(self._key, notice.body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", SIGNATURE: signature}
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
            client.post(notice.target, content=notice.body, headers=headers).raise_for_status()
