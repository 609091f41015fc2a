"""The page of the network: a map of switches and links with what they carry, VMs, and the ways of their traffic."""

from __future__ import annotations

from fastapi import Request, Response

from forestall.model.errors import ForestallError
from forestall.service.api.asking import Here, Name, ViewerOfAll
from forestall.service.api.documents import Fabric, FabricLinkUse
from forestall.service.api.problems import Refused
from forestall.service.web.fabric_map import drawn
from forestall.service.web.rendering import page, pages

routes = pages()
SHOWN = 200


@routes.get("/network")
def network(request: Request, caller: ViewerOfAll, site: Here) -> Response:
    """What there is, how much it is used, and by whom."""
    try:
        found = Fabric(**site.ask("fabric"))
    except (Refused, ForestallError) as error:
        return page(request, "network.html", title="Network", fabric=None, why_not=str(error))
    links = sorted(found.links, key=lambda link: -(link.sent_bytes_per_s / (link.capacity_bytes_per_s or 1.0)))
    pairs = sorted(found.pairs, key=lambda pair: -pair.bytes_per_s)[:SHOWN]
    return page(
        request, "network.html", title="Network", fabric=found, links=links[:SHOWN], pairs=pairs, map=drawn(found),
        why_not="",
    )  # fmt: skip


@routes.get("/network/links/{name}")
def link(name: Name, request: Request, caller: ViewerOfAll, site: Here) -> Response:
    """Who uses a link, and why."""
    use = FabricLinkUse(**site.ask("fabric-explain", link=name))
    return page(request, "link.html", title=f"Link {name}", use=use)
