"""Makes pages of templates: with what all have in common, and the headers that keep strangers' scripts out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from forestall import __version__
from forestall.ports.token_book import Role
from forestall.service.access.tokens import Caller
from forestall.service.api import browsers
from forestall.service.api.asgi import CALLER, SESSION, Scope, Send
from forestall.service.api.asking import only_known
from forestall.service.api.problems import MEDIA_TYPE
from forestall.service.web.words import FILTERS

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
PLACES = (
    ("/", "Fleet", Role.VIEWER, False),
    ("/vms", "VMs", Role.VIEWER, False),
    ("/staging", "Staging", Role.VIEWER, False),
    ("/network", "Network", Role.VIEWER, True),
    ("/policies", "Policies", Role.VIEWER, True),
    ("/models", "Models", Role.VIEWER, True),
    ("/audit", "Audit", Role.ADMIN, True),
)
"""Where, how it is called, who may go there, and whether it is about all VMs."""
MADE = Path(__file__).parent / "static"
"""Script and style, made of ``web/`` (``make pages``); without them pages are plain, and not live."""
DONE = {
    "restored": "It was set as it had been, and is left alone until it is resumed.",
    "resumed": "It is looked after again.",
    "looked-after": "There was nothing to resume: nobody was left alone.",
    "applied": "The policies are in force from the next cycle on.",
    "changed": "It was changed.",
}
"""What is said after something was done, by the word that stands in the address."""


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page.

    Parameters
    ----------
    template
        Its file's name.
    context
        What it shows; StrictUndefined: what is missing is an error.
    """
    caller: Caller | None = request.scope.get(CALLER)
    session = request.scope.get(SESSION)
    common = {
        "caller": caller,
        "mark": session.mark if session else "",
        "places": [place[:2] for place in PLACES if caller and may_go(caller, place[2], place[3])],
        "here": request.url.path,
        "done": DONE.get(request.query_params.get("done", ""), ""),
        "version": __version__,
        "made": made(),
        "operator": caller is not None and caller.may(Role.OPERATOR),
        "admin": caller is not None and caller.may(Role.ADMIN),
        "for_all": caller is not None and caller.groups is None,
    }
    text = templates().get_template(template).render(common | context)
    return HTMLResponse(text, status, HEADERS)


def may_go(caller: Caller, role: Role, everything: bool) -> bool:
    """Whether somebody may see what needs a role and, with ``everything``, is about all VMs."""
    return caller.may(role) and not (everything and caller.groups is not None)


def after_that(address: str, done: str = "") -> RedirectResponse:
    """Send a browser on after a form, so that loading anew does nothing again."""
    return RedirectResponse(f"{address}?done={done}" if done else address, 303)


@cache
def made() -> str:
    """What stands behind the names of script and style: another when they are others; empty where they are missing."""
    files = [MADE / name for name in ("theme.js", "pages.js", "pages.css")]
    if not all(path.is_file() for path in files):
        return ""
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@cache
def templates() -> Environment:
    """All templates: whatever they are given is escaped, and what they are not given is an error."""
    environment = Environment(
        loader=PackageLoader("forestall.service.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def for_people(scope: Scope, send: Send) -> Send:
    """What sends on answers as they are, but problems as pages to who looks with a browser."""
    kept: list[MutableMapping[str, Any]] = []

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            if browsers.looks(scope) and (b"content-type", MEDIA_TYPE.encode()) in message["headers"]:
                kept.append(message)
                return
        if not kept:
            await send(message)
            return
        kept.append(message)
        if not message.get("more_body"):
            for part in _as_page(scope, kept):
                await send(part)

    return sent


def _as_page(scope: Scope, kept: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """The same problem as a page, with the headers that it had."""
    start, *bodies = kept
    problem = json.loads(b"".join(part.get("body", b"") for part in bodies))
    code, detail = problem["status"], problem["detail"]
    shown = page(Request(scope), "problem.html", code, title=problem["title"], code=code, detail=detail)
    own = {name for name, _ in shown.raw_headers}
    headers = shown.raw_headers + [pair for pair in start["headers"] if pair[0].lower() not in own]
    body = b"" if scope["method"] == "HEAD" else bytes(shown.body)
    return [{**start, "headers": headers}, {"type": "http.response.body", "body": body}]


def pages() -> APIRouter:
    """For routes that are pages; none of them stands in the document of the API."""
    return APIRouter(
        dependencies=[Depends(only_known)],
        include_in_schema=False,
        default_response_class=HTMLResponse,
    )
