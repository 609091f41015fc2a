"""Where hosts' vectors arrive: one path, frames in, each kept once. An ASGI application without a framework.

Whoever asks has shown a certificate (``scope["forestall.host"]``, the adapter's word). A frame that is refused costs
one line of the log, and no more memory than a frame may have.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from forestall.model.errors import BadInput, ForestallError, StoreError
from forestall.ports.vectors import Origin, VectorStore
from forestall.service.vector_frames import MAX_BODY_BYTES, decode

PATH = "/api/v1/vectors"
BODY_SECONDS = 30.0
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass
class Counted:
    """What has arrived since the start."""

    frames: int = 0
    vectors: int = 0
    again: int = 0
    refused: int = 0
    bytes: int = 0


class TooLarge(ForestallError):
    """A body that is longer than a frame may be."""


class Ingest:
    """Takes frames.

    Parameters
    ----------
    store
        Keeps them.
    note
        Takes one line for the operator.
    """

    def __init__(self, store: VectorStore, note: Callable[[str], None]) -> None:
        self._store, self._note = store, note
        self.counted = Counted()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        host = str(scope.get("forestall.host", ""))
        if scope["path"] != PATH or scope["method"] != "POST":
            await _answer(send, 404, {"error": f"only POST {PATH} is here"})
            return
        if not host:
            self._refuse("somebody without a name in the certificate")
            await _answer(send, 403, {"error": "your certificate has no name"})
            return
        try:
            body = await _body(scope, receive)
            applied = await asyncio.to_thread(self.take, host, body)
        except TooLarge as error:
            self._refuse(f"{host}: {error}")
            await _answer(send, 413, {"error": str(error)}, close=True)
        except BadInput as error:
            self._refuse(f"{host}: {error}")
            await _answer(send, 400, {"error": str(error)})
        except StoreError as error:
            self._note(f"vectors of {host} are not kept: {error}")
            await _answer(send, 503, {"error": "not kept; try again later"})
        except TimeoutError:
            self._refuse(f"{host}: a frame that did not end in {BODY_SECONDS:.0f} s")
            await _answer(send, 408, {"error": "too slow"}, close=True)
        else:
            await _answer(send, 200, {"applied": applied})

    def take(self, host: str, body: bytes) -> bool:
        """Keep a frame of a host, durably; False if it was kept before.

        Raises
        ------
        BadInput
            It is no frame.
        StoreError
            It cannot be kept.
        """
        frame = decode(body)
        applied = self._store.apply(Origin(host, frame.spool, frame.sequence), frame.batch)
        self.counted.frames += 1
        self.counted.bytes += len(body)
        if applied:
            self.counted.vectors += len(frame.batch)
        else:
            self.counted.again += 1
            self._note(f"{host}: frame {frame.sequence} of spool {frame.spool} came again: passed over")
        return applied

    def _refuse(self, why: str) -> None:
        self.counted.refused += 1
        self._note(f"refused: {why}")


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The body, unless it is, or says that it is, longer than a frame may be."""
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not said.isdigit() or int(said) > MAX_BODY_BYTES:
        raise TooLarge(f"a frame of {said.decode('ascii', 'replace')[:20]} bytes is larger than {MAX_BODY_BYTES}")
    body = bytearray()
    async with asyncio.timeout(BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadInput("a frame that was cut off")
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise TooLarge(f"a frame of more than {MAX_BODY_BYTES} bytes")
            if not message.get("more_body"):
                return bytes(body)


async def _answer(send: Send, status: int, content: dict[str, Any], *, close: bool = False) -> None:
    headers = [(b"content-type", b"application/json"), *([(b"connection", b"close")] if close else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
