"""The network between VMs: what it carries, which ways it takes, and what would be changed; for who may see all VMs."""

from __future__ import annotations

from forestall.service.api import documents as doc
from forestall.service.api.asking import OF_A_CHANGE, Here, Name, OperatorOfAll, ViewerOfAll, router
from forestall.service.api.problems import answers

routes = router()


@routes.get("/fabric", tags=["network"], responses=answers(409))
def fabric(caller: ViewerOfAll, site: Here) -> doc.Fabric:
    """Switches, links, interfaces of VMs, and the ways between them; 409 where `forestall fabric run` does not run."""
    return doc.Fabric(**site.ask("fabric"))


@routes.get("/fabric/plan", tags=["network"], responses=answers(409))
def fabric_plan(caller: ViewerOfAll, site: Here) -> doc.FabricPlan:
    """What would be changed in the switches now, step by step."""
    return doc.FabricPlan(**site.ask("fabric-plan"))


@routes.post("/fabric/apply", tags=["network"], responses=answers(*OF_A_CHANGE))
def apply_fabric(caller: OperatorOfAll, site: Here) -> doc.FabricApplied:
    """Change that, also where the network is only advised on."""
    return doc.FabricApplied(**site.ask("fabric-apply"))


@routes.get("/fabric/links/{name}", tags=["network"], responses=answers(409))
def fabric_link(name: Name, caller: ViewerOfAll, site: Here) -> doc.FabricLinkUse:
    """Who uses a link, and why: two switches in the direction of the traffic, as `leaf1:spine2`."""
    return doc.FabricLinkUse(**site.ask("fabric-explain", link=name))
