"""The page of trust groups: what is brought ahead of time for them, what that is worth, and what was asked for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response

from forestall.model.errors import ForestallError
from forestall.service.access.tokens import Caller
from forestall.service.api import groups, preallocations
from forestall.service.api.asking import Here, Name, Operator, Viewer
from forestall.service.api.browsers import form_of
from forestall.service.api.documents import TrustGroup, TrustGroupChange
from forestall.service.api.problems import Refused
from forestall.service.api.site import Site
from forestall.service.web.rendering import after_that, page, pages

routes = pages()


@routes.get("/staging")
def staging(request: Request, caller: Viewer, site: Here, done: Annotated[str, Query(max_length=16)] = "") -> Response:
    """Every trust group that somebody may see, with what staging has brought it, and requests for memory and blocks."""
    seen = [TrustGroup(**each) for each in site.ask("trust-groups") if caller.sees(each["group"])]
    memory, blocks, why_not = _statistics(site, caller)
    asked = preallocations.seen(site, caller) if not why_not else []
    return page(
        request, "staging.html", title="Staging", groups=seen, memory=memory, blocks=blocks, why_not=why_not,
        asked=asked,
    )  # fmt: skip


@routes.post("/staging/{group:path}/{what}")
def change(group: Name, what: str, request: Request, caller: Operator, site: Here) -> Response:
    """Begin or end to stage for a group, or say within which time what is staged must be touched."""
    if what == "horizon":
        try:
            wanted = TrustGroupChange(horizon_seconds=float(form_of(request.scope).get("seconds", "")))
        except ValueError as error:
            raise Refused(422, "a horizon is a number of seconds from 0.1 to 86,400") from error
    elif what in ("on", "off"):
        wanted = TrustGroupChange(shadowing=what == "on", horizon_seconds=None)
    else:
        raise Refused(404, f"{what!r} is nothing that can be done with it")
    groups.change_trust_group(group, wanted, caller, site)
    return after_that("/staging", "changed")


def _statistics(site: Site, caller: Caller) -> tuple[dict[str, Any], dict[str, Any], str]:
    """What staging memory, and blocks, has brought each group that may be seen; or why nothing is staged."""
    try:
        found = site.ask("shadowing", least_vms=1, group=None)
    except ForestallError as error:
        return {}, {}, str(error)
    blocks = found.get("blocks") or {"groups": {}}
    memory, disks = (
        {name: row for name, row in part["groups"].items() if caller.sees(name)} for part in (found, blocks)
    )
    return memory, disks, ""
