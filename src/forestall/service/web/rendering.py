"""Makes pages of templates: with what all have in common, and the headers that keep strangers' scripts out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from forestall import __version__
from forestall.model.errors import BadInput, ForestallError, WrongUse
from forestall.ports.token_book import Role
from forestall.service.access.tokens import Caller
from forestall.service.api.asgi import CALLER, SESSION
from forestall.service.api.asking import only_known
from forestall.service.api.problems import Refused
from forestall.service.web.words import FILTERS

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
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


class PageRoute(APIRoute):
    """A route whose problems are pages, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, but for errors."""
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except Refused as error:
                return _problem(request, error.status, str(error))
            except RequestValidationError as error:
                first = error.errors()[0]
                return _problem(request, 422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
            except ForestallError as error:
                return _problem(request, 409 if isinstance(error, WrongUse | BadInput) else 503, str(error))

        return handled


def _problem(request: Request, status: int, detail: str) -> Response:
    return page(request, "problem.html", status, title=HTTPStatus(status).phrase, detail=detail, code=status)


def pages() -> APIRouter:
    """For routes that are pages; none of them stands in the document of the API."""
    return APIRouter(
        route_class=PageRoute,
        dependencies=[Depends(only_known)],
        include_in_schema=False,
        default_response_class=HTMLResponse,
    )
