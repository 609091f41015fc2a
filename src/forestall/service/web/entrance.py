"""Where people sign in and out; the door takes the token, here is what it looks like."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from forestall.service.access.sessions import Sessions
from forestall.service.api.asking import Viewer
from forestall.service.api.browsers import SIGN_IN, SIGN_OUT, back_to, session_name, with_session
from forestall.service.web.rendering import after_that, page, pages

routes = pages()
WHY = {
    "wrong": "That token does not hold: it is none, or has ended.",
    "elsewhere": "This does not come from a page of this host: the name in the address bar is not the one that the "
    "server is asked by. A proxy in front must hand on Host.",
    "unknown": "The provider did not confirm who you are. Try again; the log of Forestall says more.",
    "nobody": "The provider knows you, but you are in no group that may come in here.",
    "away": "The provider cannot be reached. A token goes on to hold.",
    "often": "Too many attempts without a token that holds; wait a minute.",
}


@routes.get(SIGN_IN)
def sign_in(
    request: Request,
    why: Annotated[str, Query(max_length=16)] = "",
    there: Annotated[str, Query(max_length=2_048, alias="next")] = "/",
) -> Response:
    """The form for a token."""
    provider = request.app.state.sign_on
    name = provider.name if provider else ""
    return page(request, "sign_in.html", title="Sign in", why=WHY.get(why, ""), there=back_to(there), provider=name)


@routes.post(SIGN_OUT)
def sign_out(request: Request, caller: Viewer) -> Response:
    """End the session."""
    sessions: Sessions = request.app.state.sessions
    sessions.end(session_name(request.scope))
    return with_session(after_that(SIGN_IN), request.scope, "")
