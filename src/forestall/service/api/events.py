"""``/events``: what changes, as it changes (Server-Sent Events)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from forestall.service.access.sessions import Sessions
from forestall.service.access.tokens import Caller, Tokens
from forestall.service.api.asgi import SESSION
from forestall.service.api.asking import Viewer, caller_of, router
from forestall.service.api.browsers import session_name
from forestall.service.api.news import MOST_LISTENERS, MOST_OF_ONE, News
from forestall.service.api.problems import Refused

routes = router()


def room(request: Request) -> News:
    """What tells the news; a problem where too many listen."""
    news: News = request.app.state.news
    if news.listeners.total() >= MOST_LISTENERS:
        raise Refused(503, f"{MOST_LISTENERS} listen already", {"Retry-After": "30"})
    if news.listeners[caller_of(request).name] >= MOST_OF_ONE:
        raise Refused(429, f"{MOST_OF_ONE} listen with this token already", {"Retry-After": "30"})
    return news


@routes.get("/events", tags=["events"], response_class=EventSourceResponse)
async def events(
    caller: Viewer,
    request: Request,
    news: Annotated[News, Depends(room)],
    last_event_id: Annotated[str | None, Header(max_length=64, description="Id of the last that was heard.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """What changes, as it changes: `cycle`, `mode`, `fault`, `contact`, `vm-started`, `vm-stopped`, `vm-altered`,
    `vm-restored`. `reset`, which comes first: look at everything anew. Who comes again with the id of the last event
    misses none of the last 4,096. It ends when the token does, or the session.
    """
    async for name, event in news.heard(caller, last_event_id, lambda: _still_there(request, caller)):
        yield ServerSentEvent(event=event.kind, data=event.data, id=name)


def _still_there(request: Request, caller: Caller) -> bool:
    """Whether who listens would still be let in, by their token or by their session."""
    if request.scope.get(SESSION) is not None:
        sessions: Sessions = request.app.state.sessions
        return sessions.of(session_name(request.scope), time.time()) is not None
    tokens: Tokens = request.app.state.tokens
    return tokens.holds(caller, time.time())
