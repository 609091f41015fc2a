"""Who may ask, and what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

from fastapi import Query, Request

from forestall.service.api import documents as doc
from forestall.service.api.asking import AdminOfAll, After, Limit, Viewer, page, router

routes = router()


@routes.get("/me", tags=["access"])
def me(caller: Viewer) -> doc.You:
    """Who you are to Forestall."""
    return doc.You(name=caller.name, role=caller.role, groups=None if caller.groups is None else sorted(caller.groups))


@routes.get("/tokens", tags=["access"])
def tokens(caller: AdminOfAll, request: Request, after: After = None, limit: Limit = 100) -> doc.Page[doc.Token]:
    """Every token: whose it is, what it is for, when it ends."""
    found = [
        doc.Token(
            name=each.name,
            role=each.role,
            groups=None if each.groups is None else list(each.groups),
            created_at=each.created_at,
            expires_at=each.expires_at,
        )
        for each in request.app.state.tokens.records()
    ]
    return doc.Page[doc.Token](**page(found, lambda each: each.name, after, limit))


@routes.get("/audit", tags=["access"])
def audit(
    caller: AdminOfAll,
    request: Request,
    after: Annotated[int, Query(ge=0, lt=1 << 53, description="The `next` of the part before.")] = 0,
    limit: Limit = 100,
) -> doc.Page[doc.AuditEntry]:
    """What was asked for that changes something, and what was refused; each entry has the hash of the one before."""
    entries: Iterator[Any] = request.app.state.audit.entries(after)
    found = list(islice(entries, limit + 1))
    items = [
        doc.AuditEntry(
            sequence=each.sequence,
            before=each.before,
            hash=each.hash,
            **{name: getattr(each.deed, name) for name in ("at", "who", "role", "place", "what", "result", "detail")},
        )
        for each in found[:limit]
    ]
    return doc.Page[doc.AuditEntry](items=items, next=str(items[-1].sequence) if len(found) > limit else None)
