"""Trust groups: who is in them, and whether they are staged for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forestall.service.access.tokens import Caller
from forestall.service.api import documents as doc
from forestall.service.api.asking import (
    OF_A_CHANGE,
    AdminOfAll,
    After,
    Here,
    Limit,
    Name,
    Operator,
    Viewer,
    page,
    router,
)
from forestall.service.api.problems import Refused, answers
from forestall.service.api.site import Site

routes = router()
OF_GROUP = frozenset({"groups", "refusals", "used", "reading", "vms", "blocks"})
"""What statistics say of one group; the rest is about all."""


@routes.get("/trust-groups", tags=["trust groups"])
def trust_groups(caller: Viewer, site: Here, after: After = None, limit: Limit = 100) -> doc.Page[doc.TrustGroup]:
    """Every trust group that you may see."""
    found = [doc.TrustGroup(**each) for each in site.ask("trust-groups") if caller.sees(each["group"])]
    return doc.Page[doc.TrustGroup](**page(found, lambda each: each.group, after, limit))


@routes.post("/trust-groups", tags=["trust groups"], status_code=201, responses=answers(*OF_A_CHANGE))
def create_trust_group(new: doc.NewTrustGroup, caller: AdminOfAll, site: Here) -> doc.TrustGroup:
    """Make a trust group without VMs."""
    return _group(site.ask("trust-group", do="create", group=new.group), new.group)


@routes.get("/trust-groups/{group}", tags=["trust groups"], responses=answers(404))
def trust_group(group: Name, caller: Viewer, site: Here) -> doc.TrustGroup:
    """One trust group."""
    return _seen_group(site, group, caller)


@routes.get("/trust-groups/{group}/statistics", tags=["trust groups"], responses=answers(404, 409))
def statistics(group: Name, caller: Viewer, site: Here) -> dict[str, Any]:
    """What staging memory, and blocks of disks, has brought a group, and what it costs; 409 where it is off.

    As `forestall trust-group stats --json` prints it.
    """
    _seen_group(site, group, caller)
    found: dict[str, Any] = site.ask("shadowing", least_vms=1, group=group)
    return found if caller.groups is None else _only(found)


@routes.patch("/trust-groups/{group}", tags=["trust groups"], responses=answers(404, *OF_A_CHANGE))
def change_trust_group(group: Name, change: doc.TrustGroupChange, caller: Operator, site: Here) -> doc.TrustGroup:
    """Begin or end to stage memory for a group, or say within which time a staged page must be touched."""
    found = _seen_group(site, group, caller)
    if change.horizon_seconds is not None:
        found = _group(site.ask("trust-group", do="set-horizon", group=group, seconds=change.horizon_seconds), group)
    if change.shadowing is not None:
        do = "enable-shadowing" if change.shadowing else "disable-shadowing"
        found = _group(site.ask("trust-group", do=do, group=group), group)
    return found


@routes.delete("/trust-groups/{group}", tags=["trust groups"], status_code=204, responses=answers(404, *OF_A_CHANGE))
def delete_trust_group(group: Name, caller: AdminOfAll, site: Here) -> None:
    """Forget what was said of a group; its VMs are in those that the policy file says, or in none."""
    _seen_group(site, group, caller)
    site.ask("trust-group", do="delete", group=group)


@routes.put("/trust-groups/{group}/members/{vm}", tags=["trust groups"], responses=answers(404, *OF_A_CHANGE))
def put_member(group: Name, vm: Name, caller: AdminOfAll, site: Here) -> doc.TrustGroup:
    """Put a VM into a trust group, out of the one that it was in; it need not run."""
    _seen_group(site, group, caller)
    return _group(site.ask("trust-group", do="add", group=group, vms=[vm]), group)


@routes.delete("/trust-groups/{group}/members/{vm}", tags=["trust groups"], responses=answers(404, *OF_A_CHANGE))
def delete_member(group: Name, vm: Name, caller: AdminOfAll, site: Here) -> doc.TrustGroup:
    """Take a VM out of a trust group that it was put into."""
    _seen_group(site, group, caller)
    return _group(site.ask("trust-group", do="remove", group=group, vms=[vm]), group)


def _only(found: Mapping[str, Any]) -> dict[str, Any]:
    """What statistics say of a group, without what they say of all."""
    return {key: _only(part) if key == "blocks" else part for key, part in found.items() if key in OF_GROUP}


def _group(views: Sequence[dict[str, Any]], group: str) -> doc.TrustGroup:
    return next(doc.TrustGroup(**each) for each in views if each["group"] == group)


def _seen_group(site: Site, group: str, caller: Caller) -> doc.TrustGroup:
    found = [doc.TrustGroup(**each) for each in site.ask("trust-groups") if each["group"] == group]
    if not found or not caller.sees(group):
        raise Refused(404, f"there is no trust group {group!r}")
    return found[0]
