"""What routes of the API have in common: who asks, what it needs, and lists in parts."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request

from forestall.ports.token_book import Role
from forestall.service.access.tokens import Caller
from forestall.service.api.asgi import CALLER
from forestall.service.api.problems import Refused, answers
from forestall.service.api.site import Site

MOST_ITEMS = 1_000
LONGEST_NAME = 256
Item = TypeVar("Item")
Name = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME)]
After = Annotated[str | None, Query(max_length=LONGEST_NAME, description="The `next` of the part before.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="At most so many.")]
AT_THE_DOOR = (400, 401, 403, 422, 429, 503)
OF_A_CHANGE = (408, 409, 413)


def caller_of(request: Request) -> Caller:
    """Who asks."""
    found: Caller = request.scope[CALLER]
    return found


def site_of(request: Request) -> Site:
    """What is asked about."""
    found: Site = request.app.state.site
    return found


Here = Annotated[Site, Depends(site_of)]


@dataclass(frozen=True)
class Needs:
    """Who asks; a problem unless they have the role and, with ``everything``, no bounds to trust groups."""

    role: Role
    everything: bool = False

    def __call__(self, request: Request) -> Caller:
        """Let somebody through, or not."""
        caller = caller_of(request)
        if not caller.may(self.role):
            raise Refused(403, f"this needs the role {self.role.value}; yours is {caller.role.value}")
        if self.everything and caller.groups is not None:
            raise Refused(403, "this is about all VMs; your token is for some trust groups only")
        return caller


Viewer = Annotated[Caller, Depends(Needs(Role.VIEWER))]
Operator = Annotated[Caller, Depends(Needs(Role.OPERATOR))]
ViewerOfAll = Annotated[Caller, Depends(Needs(Role.VIEWER, everything=True))]
OperatorOfAll = Annotated[Caller, Depends(Needs(Role.OPERATOR, everything=True))]
AdminOfAll = Annotated[Caller, Depends(Needs(Role.ADMIN, everything=True))]


def only_known(request: Request) -> None:
    """Refuse what stands behind the ``?`` and means nothing: what was misspelt would be all that there is."""
    dependant = request.scope["route"].dependant
    known = {field.alias for each in (dependant, *dependant.dependencies) for field in each.query_params}
    given = [name for name, _ in request.query_params.multi_items()]
    if unknown := sorted(set(given) - known):
        there = f"there are {', '.join(sorted(known))}" if known else "there is none"
        raise Refused(422, f"{unknown[0]!r} is no parameter of this: {there}")
    if len(given) > len(set(given)):
        raise Refused(422, "a parameter is given once")


def router() -> APIRouter:
    """For paths of the API, each of which may be refused at the door."""
    return APIRouter(prefix="/api/v1", dependencies=[Depends(only_known)], responses=answers(*AT_THE_DOOR))


def page(items: Sequence[Item], name_of: Callable[[Item], str], after: str | None, limit: int) -> dict[str, Any]:
    """A part of a list that is sorted by name."""
    begins = 0 if after is None else bisect.bisect_right(items, after, key=name_of)
    part = items[begins : begins + limit]
    return {"items": part, "next": name_of(part[-1]) if begins + limit < len(items) else None}
