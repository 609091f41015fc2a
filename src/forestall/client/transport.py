"""How the API is reached: again after what passes by itself, and with a key for what must be done once."""

from __future__ import annotations

import json
import re
import secrets
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from forestall.model.errors import ApiError, WrongUse

PREFIX = "/api/v1/"
ANSWER_SECONDS, SILENT_SECONDS = 330.0, 90.0
"""History takes minutes to be written."""
TRIES, LONGEST_PAUSE_SECONDS = 4, 10.0
BUSY, BEING_DONE = frozenset({429, 503}), 409
"""With ``Retry-After``: ask again; as long as it is being done, as often as it takes."""
_TOKEN = re.compile(r"[!-~]+")


class Transport:
    """A connection with a token.

    Parameters
    ----------
    url, token, authority
        As of :class:`~forestall.client.client.Client`.
    below
        What carries it, for tests; None: the network.
    """

    def __init__(
        self, url: str, token: str, authority: Path | None = None, below: httpx.BaseTransport | None = None
    ) -> None:
        try:
            address = httpx.URL(url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise WrongUse(f"{url!r} is no address of an API: {error}") from error
        if address.scheme not in ("https", "http") or not address.host:
            raise WrongUse(f"{url!r} is no address of an API: https://HOST:PORT")
        if not _TOKEN.fullmatch(token):
            raise WrongUse("the token is none: it has printable characters only")  # which is not told
        verify: ssl.SSLContext | bool = True
        if authority is not None:
            try:
                verify = ssl.create_default_context(cafile=str(authority))
            except (OSError, ssl.SSLError) as error:
                raise WrongUse(f"{authority}: is no certificate: {error}") from error
        self._client = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {token}"},
            verify=verify,
            timeout=ANSWER_SECONDS,
            transport=below,
        )

    def close(self) -> None:
        """Let it go."""
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        """What stands at a path."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._json(self._asked("GET", path, params=given))

    def content(self, path: str) -> bytes:
        """The bytes that stand at a path."""
        return self._asked("GET", path).content

    def change(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """Change something, once."""
        found = self._asked(method, path, headers={"Idempotency-Key": secrets.token_hex(16), **(headers or {})}, **more)
        return self._json(found) if found.content else None

    def events(self, path: str, after: str | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Server-Sent Events without end."""
        missed = 0
        while True:
            headers = {"Last-Event-ID": after} if after else {}
            timeout = httpx.Timeout(ANSWER_SECONDS, read=SILENT_SECONDS)
            try:
                with self._client.stream("GET", PREFIX + path, headers=headers, timeout=timeout) as stream:
                    if stream.status_code != 200:
                        stream.read()
                        raise _refused(stream)
                    for name, kind, data in _events(stream.iter_lines()):
                        after, missed = name, 0
                        yield name, kind, data
            except httpx.TransportError as error:
                if (missed := missed + 1) >= TRIES:
                    raise ApiError(f"{self._client.base_url}: {_words(error)}") from error
            time.sleep(min(2.0**missed, LONGEST_PAUSE_SECONDS))

    def _asked(self, method: str, path: str, **more: Any) -> httpx.Response:
        attempt, until = 1, time.monotonic() + ANSWER_SECONDS
        while True:
            last, pause = attempt == TRIES, min(2.0 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
            try:
                found = self._client.request(method, PREFIX + path, **more)
            except httpx.HTTPError as error:
                if last or isinstance(error, httpx.LocalProtocolError):
                    raise ApiError(f"{self._client.base_url}: {_words(error)}") from error
            else:
                if found.is_success:
                    return found
                wait = found.headers.get("Retry-After", "")
                being_done = found.status_code == BEING_DONE and time.monotonic() < until
                if not wait.isdigit() or not (being_done or (found.status_code in BUSY and not last)):
                    raise _refused(found)
                pause = min(float(wait), LONGEST_PAUSE_SECONDS)
                attempt -= being_done
            attempt += 1
            time.sleep(pause)

    def _json(self, found: httpx.Response) -> Any:
        try:
            return found.json()
        except ValueError as error:
            raise ApiError(f"{found.url} answers something else than an API of Forestall") from error


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Events of a stream; what has no id is none of ours."""
    said: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            said[name] = value.removeprefix(" ")
        else:
            if said.get("id") and "event" in said:
                yield said["id"], said["event"], json.loads(said.get("data") or "{}")
            said = {}


def _refused(found: httpx.Response) -> ApiError:
    try:
        detail = str(found.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{found.url} answers {found.status_code}"
    return ApiError(detail, found.status_code)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
