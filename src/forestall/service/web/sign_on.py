"""Signing in by a provider of identities: to it with an attempt, and back from it with what it confirms.

The attempt travels with the browser, in a cookie that only it has: whoever comes back without it, or with another, did
not begin here, and nothing has to be kept for those who never come back.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Annotated

from fastapi import Query, Request, Response
from starlette.responses import RedirectResponse

from forestall.model.errors import IdentityError, WrongUse
from forestall.ports.audit_log import AuditLog, Deed
from forestall.ports.identity_provider import Attempt, IdentityProvider
from forestall.service.access.people import PeopleRules, caller_of
from forestall.service.access.rates import Rates
from forestall.service.access.sessions import Sessions
from forestall.service.access.tokens import Caller
from forestall.service.api import browsers
from forestall.service.api.problems import Refused
from forestall.service.web.rendering import HEADERS, pages

routes = pages()
THERE, BACK = f"{browsers.SIGN_IN}/provider", f"{browsers.SIGN_IN}/back"
ATTEMPT_SECONDS = 600
LONGEST_CODE = 4_096


@dataclass
class SignOn:
    """Signs people in whom a provider knows.

    Attributes
    ----------
    provider, name
        Who confirms who they are, and what it is called on the page.
    address
        Of our pages, as browsers see them.
    rules
        Who may do what.
    audit
        Where it is written down.
    note
        Takes one line for the operator.
    noting
        How often it is written down that somebody was not let in: strangers must not fill the disk.
    """

    provider: IdentityProvider
    name: str
    address: str
    rules: PeopleRules
    audit: AuditLog
    note: Callable[[str], None]
    noting: Rates = field(default_factory=lambda: Rates(0.1, 60.0))
    now: Callable[[], float] = time.time

    @property
    def back(self) -> str:
        """Where the provider is to send browsers back to."""
        return self.address.rstrip("/") + BACK

    async def who(self, attempt: Attempt, code: str, place: str) -> Caller | str:
        """Who has come back with a code, which is written down; or, in a word, why nobody is let in."""
        try:
            caller = caller_of(await self.provider.claims(attempt, code, self.back), self.rules)
        except (IdentityError, WrongUse) as error:
            self.note(f"nobody was signed in: {error}")
            await self.refused(place, str(error))
            return "unknown" if isinstance(error, IdentityError) else "nobody"
        await self._write(Deed(self.now(), caller.name, caller.role.value, place, f"GET {BACK}", "signed in"))
        return caller

    async def refused(self, place: str, why: str) -> None:
        """Write down that somebody was not let in."""
        if not self.noting.wait_seconds("", time.monotonic()):
            await self._write(Deed(self.now(), "", "", place, f"GET {BACK}", "401", {"why": why[:500]}))

    async def _write(self, deed: Deed) -> None:
        await asyncio.to_thread(self.audit.append, deed)


@routes.get(THERE)
async def there(request: Request, wanted: Annotated[str, Query(max_length=2_048, alias="next")] = "/") -> Response:
    """Send somebody to the provider."""
    sign_on = _sign_on(request)
    attempt = Attempt(*(secrets.token_urlsafe(32) for _ in range(3)))
    try:
        address = await sign_on.provider.address(attempt, sign_on.back)
    except IdentityError as error:
        sign_on.note(f"nobody can sign in: {error}")
        return browsers.answered("away", wanted)
    answer = RedirectResponse(address, 303, HEADERS)
    kept = json.dumps({**asdict(attempt), "next": browsers.back_to(wanted)})
    return _with_attempt(answer, request, urlsafe_b64encode(kept.encode()).decode())


@routes.get(BACK)
async def back(
    request: Request,
    state: Annotated[str, Query(max_length=LONGEST_CODE)] = "",
    code: Annotated[str, Query(max_length=LONGEST_CODE)] = "",
    error: Annotated[str, Query(max_length=LONGEST_CODE)] = "",
) -> Response:
    """Somebody comes back from the provider."""
    sign_on, place = _sign_on(request), request.client.host if request.client else "unknown"
    attempt, wanted = _attempt(request)
    if attempt is None or not hmac.compare_digest(attempt.state.encode(), state.encode("utf-8", "replace")):
        await sign_on.refused(place, "it did not begin in this browser")
        return _with_attempt(browsers.answered("unknown", wanted), request, "")
    if error or not code:
        await sign_on.refused(place, f"the provider says {error!r}")
        return _with_attempt(browsers.answered("unknown", wanted), request, "")
    caller = await sign_on.who(attempt, code, place)
    if isinstance(caller, str):
        return _with_attempt(browsers.answered(caller, wanted), request, "")
    sessions: Sessions = request.app.state.sessions
    sessions.end(browsers.session_name(request.scope))
    answer = RedirectResponse(wanted, 303, HEADERS)
    browsers.with_session(answer, request.scope, sessions.begin(caller, sign_on.now()))
    return _with_attempt(answer, request, "")


def _sign_on(request: Request) -> SignOn:
    found: SignOn | None = request.app.state.sign_on
    if found is None:
        raise Refused(404, "people sign in with tokens here: there is no [sign_in] issuer")
    return found


def _attempt(request: Request) -> tuple[Attempt | None, str]:
    """The attempt that a browser has with it, and where it is to go then."""
    try:
        kept = json.loads(urlsafe_b64decode(request.cookies.get(_cookie(request), "").encode("latin-1")))
        return Attempt(*(str(kept[name]) for name in ("state", "nonce", "verifier"))), browsers.back_to(
            str(kept["next"])
        )
    except (ValueError, KeyError, TypeError):
        return None, "/"


def _with_attempt(answer: Response, request: Request, value: str) -> Response:
    """An answer that gives the browser an attempt, or takes it away."""
    answer.set_cookie(
        _cookie(request),
        value,
        max_age=ATTEMPT_SECONDS if value else 0,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


def _cookie(request: Request) -> str:
    return f"{browsers.cookie_name(request.scope)}-attempt"
