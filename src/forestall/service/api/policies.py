"""Policies: which are in force, which were, and what a draft says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Header, Path, Request, Response

from forestall.model.errors import BadPolicy
from forestall.service.api import documents as doc
from forestall.service.api.asking import (
    OF_A_CHANGE,
    AdminOfAll,
    After,
    Here,
    Limit,
    OperatorOfAll,
    ViewerOfAll,
    page,
    router,
)
from forestall.service.api.problems import Refused, answers
from forestall.service.api.site import Site

routes = router()
ANY, NUMBERS = "*", 1 << 31
"""Versions have smaller ones."""
Checking = Callable[[str], Mapping[str, Any]]
"""What a text of policies says, as plain values; :class:`~forestall.model.errors.BadPolicy` if it cannot be read."""
IfMatch = Annotated[str | None, Header(description="The ETag of the version that this follows, or `*`.")]
IfNoneMatch = Annotated[str | None, Header(description="An ETag that is there already.")]
Number = Annotated[int, Path(ge=1, lt=NUMBERS)]


@routes.get(
    "/policies",
    tags=["policies"],
    response_model=doc.Policy,
    responses={304: {"description": "The version is the one that you have."}, **answers(409)},
)
def policies(caller: ViewerOfAll, site: Here, response: Response, if_none_match: IfNoneMatch = None) -> Any:
    """The policies in force; the ETag is their version."""
    found = doc.Policy(**site.ask("policy"))
    response.headers.update(tag := _etag(found.number))
    known = {each.removeprefix("W/") for each in _tags(if_none_match or "")}
    return Response(status_code=304, headers=tag) if known & {tag["ETag"], ANY} else found


@routes.put("/policies", tags=["policies"], responses=answers(409, 412, 428, *OF_A_CHANGE))
def apply_policies(
    new: doc.NewPolicy, caller: AdminOfAll, request: Request, site: Here, response: Response, if_match: IfMatch = None
) -> doc.Policy:
    """Put policies in force, from the next cycle on, if the version that you have looked at is still the newest."""
    if if_match is None:
        raise Refused(428, "say which version this follows: If-Match, with the ETag of what is in force")
    checked(request, new.text)
    base = _base(_tags(if_match), site)
    done = site.ask("apply-policy", text=new.text, by=caller.name, comment=new.comment, base=base)
    if not done["applied"]:
        number = done["policy"]["number"]
        raise Refused(412, f"version {number} is in force, and not the one that you have looked at", _etag(number))
    response.headers.update(_etag(done["policy"]["number"]))
    return doc.Policy(**done["policy"])


@routes.post("/policies/check", tags=["policies"])
def check_policies(draft: doc.DraftPolicy, caller: OperatorOfAll, request: Request) -> doc.CheckedPolicy:
    """What policies would say, and what is probably not meant; nothing is changed."""
    return checked(request, draft.text)


@routes.get("/policies/versions", tags=["policies"], responses=answers(409))
def policy_versions(
    caller: ViewerOfAll, site: Here, after: After = None, limit: Limit = 100
) -> doc.Page[doc.PolicyVersion]:
    """Every version that was in force, the newest first."""
    found = [doc.PolicyVersion(**each) for each in reversed(site.ask("policies"))]
    return doc.Page[doc.PolicyVersion](**page(found, lambda each: f"{NUMBERS - each.number:010d}", after, limit))


@routes.get("/policies/versions/{number}", tags=["policies"], responses=answers(404, 409))
def policy_version(number: Number, caller: ViewerOfAll, site: Here) -> doc.Policy:
    """One version; to go back to it, put its text in force."""
    if number > site.ask("policy")["number"]:
        raise Refused(404, f"there is no version {number} of the policies")
    return doc.Policy(**site.ask("policy", version=number))


def checked(request: Request, text: str) -> doc.CheckedPolicy:
    """What a text says; it is read here, where a defect of reading harms nothing, before the daemon reads it."""
    checking: Checking = request.app.state.checking
    try:
        return doc.CheckedPolicy(**checking(text))
    except BadPolicy as error:
        raise Refused(422, str(error)) from error


def _etag(number: int) -> dict[str, str]:
    return {"ETag": f'"{number}"'}


def _tags(header: str) -> list[str]:
    return [each.strip() for each in header.split(",") if each.strip()]


def _base(tags: list[str], site: Site) -> int | None:
    """The version that is to be in force, by If-Match; None: any. Tags that are not ours stand for none."""
    if tags == [ANY]:
        return None
    numbers = {int(found[1]) for tag in tags if (found := re.fullmatch(r'"([0-9]{1,9})"', tag))}
    if len(numbers) == 1:
        return numbers.pop()
    now = int(site.ask("policy")["number"])
    return now if now in numbers else -1
