"""What is different when a browser comes: a cookie for a token, pages for problems, and strangers' pages behind it.

A browser sends its cookie with whatever any page asks it to send. So what changes something counts only with a secret
that our pages alone can read, and from our own origin.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, quote, urlsplit

from starlette.responses import RedirectResponse, Response

from forestall.service.access.sessions import SESSION_SECONDS, Session
from forestall.service.api.asgi import BODY, SESSION, Scope, header

SIGN_IN, SIGN_OUT, STATIC, FIELD = "/login", "/logout", "/static/", "csrf"
"""Paths, and the field of a form with what our pages alone can read."""
MARK = b"x-csrf-token"
LONGEST_NAME, LONGEST_FORM = 128, 4 << 20
_OURS = re.compile(r"/(?![/\\])")
"""Browsers take two slashes, whichever, for the name of another host."""
_MARK = re.compile(rb"(^|&)csrf=([A-Za-z0-9_-]*)(&|$)")


def cookie_name(scope: Scope) -> str:
    """Of the session; with TLS one that no other host, and nobody without TLS, can set (RFC 6265bis, section 4.1.3)."""
    return "__Host-forestall" if scope.get("scheme") == "https" else "forestall"


def session_name(scope: Scope) -> str:
    """What the cookie says; empty where there is none. Other cookies of the host may be anything."""
    name = cookie_name(scope).encode()
    for part in header(scope, b"cookie").split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == name:
            return value.strip(b'" ')[:LONGEST_NAME].decode("latin-1")
    return ""


def with_session(response: Response, scope: Scope, name: str) -> Response:
    """An answer that gives the browser a session, or, with an empty name, takes it away."""
    response.set_cookie(
        cookie_name(scope),
        name,
        max_age=int(SESSION_SECONDS) if name else 0,
        secure=scope.get("scheme") == "https",
        httponly=True,
        samesite="lax",
    )
    return response


def meant(scope: Scope, session: Session, body: bytes) -> bool:
    """Whether a change was asked for by one of our pages: by its header, or by a field of its form."""
    mark = header(scope, MARK)
    if not mark and is_form(scope) and len(body) <= LONGEST_FORM and (found := _MARK.search(body)):
        mark = found[2]
    return from_here(scope) and session.meant(mark.decode("latin-1"))


def is_form(scope: Scope) -> bool:
    """Whether what is sent says that it is a form."""
    return header(scope, b"content-type").partition(b";")[0].strip() == b"application/x-www-form-urlencoded"


def from_here(scope: Scope) -> bool:
    """Whether a page of this host asks: browsers say with each change which origin it comes from."""
    origin = header(scope, b"origin").decode("latin-1")
    try:
        return bool(origin) and urlsplit(origin).netloc == header(scope, b"host").decode("latin-1")
    except ValueError:
        return False


def form_of(scope: Scope, body: bytes | None = None) -> dict[str, str]:
    """Fields of a form that was sent, the first of each name; none if it is no form."""
    if not is_form(scope):
        return {}
    text = (scope[BODY] if body is None else body).decode("utf-8", "replace")
    try:
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def without_mark(scope: Scope, body: bytes) -> bytes:
    """A body as it may be written down: without what only our pages know."""
    return _MARK.sub(rb"\1\3", body) if scope.get(SESSION) else body


def looks(scope: Scope) -> bool:
    """Whether a person asks with a browser, and would rather see a page than a problem for programs."""
    return not scope["path"].startswith("/api/") and b"text/html" in header(scope, b"accept")


def to_sign_in(scope: Scope) -> Response:
    """Send somebody to where they sign in, and back from there."""
    query = scope["query_string"].decode("latin-1")
    there = quote(scope["path"], safe="/") + (f"?{query}" if query else "")
    return RedirectResponse(f"{SIGN_IN}?next={quote(there, safe='')}", 303)


def back_to(there: str) -> str:
    """Where to go after signing in: a page of ours, whatever was asked for."""
    return there if there.isprintable() and _OURS.match(there) else "/"


def answered(why: str, there: str) -> Response:
    """Nobody is signed in: why, on the page where they try again."""
    return RedirectResponse(f"{SIGN_IN}?why={why}&next={quote(back_to(there), safe='')}", 303)
