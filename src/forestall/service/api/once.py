"""What is asked twice with the same ``Idempotency-Key`` is done once: the second time has the answer of the first.

Source: The Idempotency-Key HTTP Header Field (draft-ietf-httpapi-idempotency-key-header).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from forestall.ports.kept_answers import Answer, Kept, KeptAnswers
from forestall.service.access.tokens import Caller
from forestall.service.api.asgi import BODY, CALLER, READING, Application, Receive, Scope, Send, header
from forestall.service.api.problems import MEDIA_TYPE, problem

AGAIN = "Idempotency-Replayed"
OF_AN_ANSWER = ("etag", "location")
"""Headers that are kept with it."""
_KEY = re.compile(rb"[\x21-\x7e]{1,128}")


@dataclass
class Once:
    """Does each once. Kept is what was done; where nothing was, it may be tried again with the same key.

    An answer of 5xx without ``Retry-After`` says that nobody knows.

    Attributes
    ----------
    application
        What does it.
    kept
        Where answers are kept.
    now
        Tells the time, seconds UTC.
    doing
        What is being done in this process.
    """

    application: Application
    kept: KeptAnswers
    now: Callable[[], float] = time.time
    doing: set[tuple[str, str]] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        key = header(scope, b"idempotency-key")
        if scope["type"] != "http" or scope["method"] in READING or not key:
            await self.application(scope, receive, send)
            return
        if not _KEY.fullmatch(key):
            await problem(400, "an Idempotency-Key has 1 to 128 printable characters")(scope, receive, send)
            return
        whose, name, mark = _whose(scope[CALLER]), key.decode("ascii"), _fingerprint(scope)
        before = await asyncio.to_thread(self.kept.begin, whose, name, mark, self.now())
        if before is not None:
            await _answer_as(before, mark, (whose, name) in self.doing)(scope, receive, send)
            return
        self.doing.add((whose, name))
        try:
            heard = await self._done(scope, receive, whose, name)
        finally:
            self.doing.discard((whose, name))
        for message in heard.messages:  # not before it is kept: who asks again at once has the same answer
            await send(message)

    async def _done(self, scope: Scope, receive: Receive, whose: str, name: str) -> _Heard:
        heard = _Heard()
        await self.application(scope, receive, heard)
        if heard.status < 300:
            answer = Answer(heard.status, heard.media_type, bytes(heard.body), heard.kept)
            if heard.is_secret:
                answer = _SECRET
            await asyncio.to_thread(self.kept.end, whose, name, answer)
        elif heard.status < 500 or heard.retry_after:
            await asyncio.to_thread(self.kept.forget, whose, name)
        return heard


_SECRET = Answer(409, MEDIA_TYPE, bytes(problem(409, "it was done; what it answered is a secret, and not kept").body))


class _Heard:
    """Takes in an answer."""

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.status, self.media_type, self.retry_after, self.body = 500, "", b"", bytearray()
        self.kept: dict[str, str] = {}
        self.is_secret = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.start":
            headers = dict(message.get("headers", ()))
            self.status, self.retry_after = message["status"], headers.get(b"retry-after", b"")
            self.media_type = headers.get(b"content-type", b"").decode("latin-1")
            self.is_secret = b"no-store" in headers.get(b"cache-control", b"")
            self.kept = {
                name: headers[name.encode()].decode("latin-1") for name in OF_AN_ANSWER if name.encode() in headers
            }
        else:
            self.body += message.get("body", b"")


def _whose(caller: Caller) -> str:
    """Who asks, as what: somebody who has the name, but not the rights, of another has keys of their own."""
    groups = "*" if caller.groups is None else ",".join(sorted(caller.groups))
    return f"{caller.handle}/{caller.role.value}/{groups}"


def _fingerprint(scope: Scope) -> str:
    asked = (scope["method"].encode(), scope["path"].encode(), scope["query_string"])
    parts = (*asked, header(scope, b"if-match"), scope[BODY])
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _answer_as(before: Kept, mark: str, being_done: bool) -> Response:
    if before.fingerprint != mark:
        return problem(422, "this Idempotency-Key was used for something else")
    if before.answer is None and being_done:
        return problem(409, "this is being done: ask again", headers={"Retry-After": "2"})
    if before.answer is None:
        return problem(409, "this was being done when the API ended: see what came of it, and take another key")
    answer = before.answer
    return Response(answer.body or None, answer.status, {**answer.headers, AGAIN: "true"}, answer.media_type or None)
