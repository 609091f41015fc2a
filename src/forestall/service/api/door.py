"""The door of the API: who asks, how often, with how much; and what was asked is written down.

Whoever comes in has shown a token (``Authorization: Bearer``), now or when they signed in. What changes something is in
the audit log before it is done, and again with what came of it; so is who showed none that holds, or asked for what
their role does not allow. A browser without one is sent to where people sign in.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import RedirectResponse

from forestall.model.errors import StoreError
from forestall.ports.audit_log import AuditLog, Deed
from forestall.ports.token_book import Role
from forestall.service.access.rates import Rates
from forestall.service.access.sessions import Session, Sessions
from forestall.service.access.tokens import Caller, Tokens
from forestall.service.api import browsers
from forestall.service.api.asgi import BODY, CALLER, READING, SESSION, Application, Receive, Scope, Send, header
from forestall.service.api.once import AGAIN
from forestall.service.api.problems import problem

_log = logging.getLogger(__name__)
OPEN = frozenset({"/healthz", "/readyz", browsers.SIGN_IN})
"""Paths that may be looked at without a token, beside those of script and style."""
REFUSED = frozenset({401, 403})
LONGEST_BODY, BODY_SECONDS = 1 << 20, 30.0
LONGEST_FORM = 1 << 14
"""With which somebody signs in."""
UPLOADS, MOST_UPLOADS = ("POST", "/api/v1/traces"), 2
LONGEST_UPLOAD, UPLOAD_SECONDS = 64 << 20, 600.0
"""Where larger bodies come, and how many of them at once: they are in memory."""
_USUAL, _LARGE = (LONGEST_BODY, BODY_SECONDS), (LONGEST_UPLOAD, UPLOAD_SECONDS)
LONGEST_SHOWN = 500


def _at_most(per_second: float, burst: float) -> Callable[[], Rates]:
    return lambda: Rates(per_second, burst)


@dataclass
class Door:
    """Lets requests through to an application, or not.

    Attributes
    ----------
    application
        What is behind it.
    tokens, sessions
        Who may come in, and whose browsers have been let in.
    audit
        Where it is written down.
    asking, changing, failing
        How often each token may ask, and change something, and each address may come without a token that holds.
    signing
        How often each address may sign in by a provider of identities, who is asked each time.
    noting
        How often it is written down that somebody came without one: strangers must not fill the disk.
    shown
        How answers are shown to who asks so.
    uploads
        Large bodies that are on their way.
    """

    application: Application
    tokens: Tokens
    sessions: Sessions
    audit: AuditLog
    asking: Rates = field(default_factory=_at_most(50.0, 200.0))
    changing: Rates = field(default_factory=_at_most(5.0, 50.0))
    noting: Rates = field(default_factory=_at_most(0.1, 60.0))
    signing: Rates = field(default_factory=_at_most(0.2, 20.0))
    failing: Rates = field(default_factory=_at_most(0.2, 10.0))
    shown: Callable[[Scope, Send], Send] = lambda scope, send: send
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    uploads: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it."""
        if scope["type"] == "http":
            send = self.shown(scope, send)
        if scope["type"] != "http" or _is_open(scope):
            await self.application(scope, receive, send)
            return
        place = str((scope.get("client") or ("unknown",))[0])
        try:
            if scope["path"].startswith(f"{browsers.SIGN_IN}/"):
                await self._by_a_provider(scope, receive, send, place)
                return
            if (scope["method"], scope["path"]) == ("POST", browsers.SIGN_IN):
                await self._sign_in(scope, receive, send, place)
                return
            scope[SESSION], caller = await asyncio.to_thread(self._who, scope)
            if caller is None:
                await self._turn_away(scope, receive, send, place)
                return
            scope[CALLER] = caller
            rate = self.asking if scope["method"] in READING else self.changing
            if wait := rate.wait_seconds(caller.name, self.monotonic()):
                await _refuse(scope, receive, send, 429, "too many requests", wait)
                return
            await self._through(scope, receive, send, place, caller)
        except StoreError as error:
            await _refuse(scope, receive, send, 503, str(error))

    def _who(self, scope: Scope) -> tuple[Session | None, Caller | None]:
        """Who asks: by their token, if they show one; else by their session."""
        if header(scope, b"authorization"):
            return None, self.tokens.who(_bearer(scope), self.now())
        session = self.sessions.of(browsers.session_name(scope), self.now())
        return session, session.caller if session else None

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send, place: str) -> None:
        """A token for a session; the body, which has it in it, is not written down."""
        try:
            body = await _whole(scope, receive, LONGEST_FORM, BODY_SECONDS)
        except _Gone:
            return
        except (_TooLarge, TimeoutError):
            await _refuse(scope, receive, send, 413, "no token is that long, or takes that long", close=True)
            return
        form = browsers.form_of(scope, body)
        there = browsers.back_to(form.get("next", "/"))
        if not browsers.from_here(scope):
            await browsers.answered("elsewhere", there)(scope, receive, send)
            return
        caller = await asyncio.to_thread(self.tokens.who, form.get("token", "").strip(), self.now())
        if caller is None:
            often = self.failing.wait_seconds(_neighbourhood(place), self.monotonic())
            if not often and not self.noting.wait_seconds("", self.monotonic()):
                await self._write(scope, place, None, "401")
            await browsers.answered("often" if often else "wrong", there)(scope, receive, send)
            return
        await self._write(scope, place, caller, "signed in")
        self.sessions.end(browsers.session_name(scope))
        name = self.sessions.begin(caller, self.now())
        await browsers.with_session(RedirectResponse(there, 303), scope, name)(scope, receive, send)

    async def _by_a_provider(self, scope: Scope, receive: Receive, send: Send, place: str) -> None:
        """To a provider of identities and back; the pages know how."""
        if wait := self.signing.wait_seconds(_neighbourhood(place), self.monotonic()):
            await _refuse(scope, receive, send, 429, "too many attempts to sign in", wait)
        elif scope["method"] not in READING:
            await _refuse(scope, receive, send, 405, "there is nothing to be changed here")
        else:
            await self.application(scope, receive, send)

    async def _turn_away(self, scope: Scope, receive: Receive, send: Send, place: str) -> None:
        """Somebody without a token that holds; those of the same address who have one are not held up by it."""
        if browsers.looks(scope) and scope["method"] in READING and not header(scope, b"authorization"):
            await browsers.to_sign_in(scope)(scope, receive, send)
            return
        if wait := self.failing.wait_seconds(_neighbourhood(place), self.monotonic()):
            await _refuse(scope, receive, send, 429, "too many attempts without a token that holds", wait)
            return
        if not self.noting.wait_seconds("", self.monotonic()):
            await self._write(scope, place, None, "401")
        await _refuse(scope, receive, send, 401, "show a token that holds: Authorization: Bearer TOKEN")

    async def _through(self, scope: Scope, receive: Receive, send: Send, place: str, caller: Caller) -> None:
        """One at a time of a few with large bodies, and all others."""
        large = (scope["method"], scope["path"]) == UPLOADS and caller.may(Role.OPERATOR) and caller.groups is None
        if large and self.uploads >= MOST_UPLOADS:
            await _refuse(scope, receive, send, 429, "too many traces are on their way", 10.0, close=True)
            return
        self.uploads += large
        try:
            await self._taken_in(scope, receive, send, place, caller, *(_LARGE if large else _USUAL))
        finally:
            self.uploads -= large

    async def _taken_in(
        self, scope: Scope, receive: Receive, send: Send, place: str, caller: Caller, most: int, seconds: float
    ) -> None:
        changes = scope["method"] not in READING
        if changes:
            try:
                body = await _whole(scope, receive, most, seconds)
            except _Gone:
                return
            except _TooLarge:
                await _refuse(scope, receive, send, 413, f"a body has at most {most} bytes", close=True)
                return
            except TimeoutError:
                await _refuse(scope, receive, send, 408, f"the body did not end in {seconds:g} s", close=True)
                return
            session = scope[SESSION]
            if session is not None and not browsers.meant(scope, session, body):
                await self._write(scope, place, caller, "403")
                await _refuse(scope, receive, send, 403, "this does not come from a page of ours; load it anew")
                return
            await self._write(scope, place, caller, "asked", browsers.without_mark(scope, body))
            scope, receive = {**scope, BODY: body}, _handing_on(body, receive)
        answered, what = False, scope["path"]

        async def told(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start" and (changes or message["status"] in REFUSED):
                try:
                    await self._write(scope, place, caller, _result(message))
                except StoreError as error:  # it is done, and that it was asked for is written down
                    _log.error("%s %s: what came of it is not in the audit log: %s", scope["method"], what, error)
            answered = True
            await send(message)

        try:
            await self.application(scope, receive, told)
        except StoreError:
            if answered:
                return  # it is half out: nothing more can be said
            raise

    async def _write(self, scope: Scope, place: str, caller: Caller | None, result: str, body: bytes = b"") -> None:
        what = _readable(f"{scope['method']} {scope['path']}".encode("utf-8", "replace"))
        name, role = (caller.name, caller.role.value) if caller else ("", "")
        parts = {"query": scope["query_string"], "body": body, "token": caller.handle.encode() if caller else b""}
        detail = {key: _readable(part) for key, part in parts.items() if part}
        await asyncio.to_thread(self.audit.append, Deed(self.now(), name, role, place, what, result, detail))


def _is_open(scope: Scope) -> bool:
    """Whether anybody may see it: what says that the service lives, the page to sign in, and what pages look like."""
    path = scope["path"]
    return scope["method"] in READING and (path in OPEN or path.startswith(browsers.STATIC))


class _TooLarge(Exception):
    pass


class _Gone(Exception):
    pass


def _readable(text: bytes) -> str:
    """The beginning of what strangers have sent, as text that can be written down."""
    return text[:LONGEST_SHOWN].decode("utf-8", "replace")


def _neighbourhood(place: str) -> str:
    """Whom to count together: an address of IPv4, and of IPv6 the network that one customer has."""
    try:
        address = ipaddress.ip_address(place)
    except ValueError:
        return place
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else place


async def _whole(scope: Scope, receive: Receive, most: int, seconds: float) -> bytes:
    """The body."""
    said = header(scope, b"content-length")
    if said and (not said.isdigit() or len(said) > 12 or int(said) > most):
        raise _TooLarge
    body = bytearray()
    async with asyncio.timeout(seconds):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            if len(body) > most:
                raise _TooLarge
            if not message.get("more_body"):
                return bytes(body)


def _handing_on(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was taken in already, and then what comes after it."""
    handed_on = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal handed_on
        if handed_on:
            return await receive()
        handed_on = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _result(start: MutableMapping[str, Any]) -> str:
    """Status of an answer, and whether it is one that was given before."""
    again = any(name.lower() == AGAIN.lower().encode() for name, _ in start.get("headers", ()))
    return f"{start['status']} as before" if again else str(start["status"])


def _bearer(scope: Scope) -> str:
    kind, _, token = header(scope, b"authorization").decode("latin-1").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def _refuse(
    scope: Scope, receive: Receive, send: Send, status: int, detail: str, wait: float = 0.0, *, close: bool = False
) -> None:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    headers |= {"Retry-After": str(int(wait) + 1)} if wait else {}
    headers |= {"Connection": "close"} if close else {}
    await problem(status, detail, headers=headers)(scope, receive, send)
