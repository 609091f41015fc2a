"""Memory and blocks that a VM manager asks for ahead of time."""

from __future__ import annotations

from typing import Any

from forestall.service.access.tokens import Caller
from forestall.service.api import documents as doc
from forestall.service.api.asking import OF_A_CHANGE, After, Here, Limit, Name, Operator, Viewer, page, router
from forestall.service.api.problems import Refused, answers
from forestall.service.api.site import Site

routes = router()


@routes.get("/preallocations", tags=["preallocation"], responses=answers(409))
def preallocations(caller: Viewer, site: Here, after: After = None, limit: Limit = 100) -> doc.Page[doc.Preallocation]:
    """What was asked for, and what has become of it; what has ended can be looked at for an hour."""
    found = sorted(seen(site, caller), key=lambda each: each.name)
    return doc.Page[doc.Preallocation](**page(found, lambda each: each.name, after, limit))


@routes.post("/preallocations", tags=["preallocation"], status_code=201, responses=answers(404, *OF_A_CHANGE))
def preallocate(wanted: doc.NewPreallocation, caller: Operator, site: Here) -> doc.Preallocation:
    """Have memory, or blocks of disks, staged for a VM that will need it soon; who is named is told when it is."""
    site.vm(wanted.vm, caller)
    if wanted.notify and caller.groups is not None:
        raise Refused(403, "whom the daemon tells is said by those who may see all VMs")
    given = wanted.model_dump(exclude_none=True, exclude={"vm"})
    return doc.Preallocation(**site.ask("preallocate", vm=wanted.vm, **given))


@routes.get("/preallocations/{name}", tags=["preallocation"], responses=answers(404, 409))
def preallocation(name: Name, caller: Viewer, site: Here) -> doc.Preallocation:
    """One request, and what has become of it."""
    return _one(site, caller, name)


@routes.delete("/preallocations/{name}", tags=["preallocation"], responses=answers(404, *OF_A_CHANGE))
def cancel(name: Name, caller: Operator, site: Here) -> doc.Preallocation:
    """Take a request back; what is staged for it and was not touched is given back. Harmless if it has ended."""
    _one(site, caller, name)
    return doc.Preallocation(**site.ask("cancel-preallocation", name=name))


def seen(site: Site, caller: Caller) -> list[doc.Preallocation]:
    """Requests for VMs that somebody may see."""
    found: list[dict[str, Any]] = site.ask("preallocations")
    if caller.groups is not None:  # for VMs that are still in a group that they may see
        mine = {vm.name for vm in site.vms(caller)}
        found = [each for each in found if caller.sees(each["group"]) and each["vm_id"] in mine]
    return [doc.Preallocation(**each) for each in found]


def _one(site: Site, caller: Caller, name: str) -> doc.Preallocation:
    found = next((each for each in seen(site, caller) if each.name == name), None)
    if found is None:
        raise Refused(404, f"there is no request {name!r}, or no longer")
    return found
