"""Pages of hosts and VMs: who is at risk, what they hold, what is expected and why."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Request, Response

from forestall.service.access.tokens import Caller
from forestall.service.api.asking import LONGEST_NAME, Here, Name, Operator, OperatorOfAll, Viewer
from forestall.service.api.documents import Decision, Host, PutBack, Resumed, Vm
from forestall.service.api.hosts import forecasts_of
from forestall.service.api.problems import Refused
from forestall.service.api.site import Site
from forestall.service.web.rendering import after_that, page, pages
from forestall.service.web.words import events_of

routes = pages()
MOST_AT_RISK, OF_A_PAGE = 20, 100
Done = Annotated[str, Query(max_length=16)]


class Order(StrEnum):
    """In which order VMs stand."""

    RISK = "risk"
    NAME = "name"
    GROUP = "group"


_KEYS: dict[Order, Any] = {
    Order.RISK: lambda vm: (-(vm.risk or 0.0), vm.name),
    Order.NAME: lambda vm: vm.name,
    Order.GROUP: lambda vm: (vm.trust_group, vm.name),
}


@routes.get("/")
def fleet(request: Request, caller: Viewer, site: Here) -> Response:
    """Hosts by risk, and the VMs that are most at risk."""
    vms = site.lately(caller)
    hosts = site.hosts(caller)
    risks = _risks(hosts, vms)
    hosts.sort(key=lambda host: (-(risks[host.name] or 0.0), host.name))
    worst = sorted(vms, key=_KEYS[Order.RISK])[:MOST_AT_RISK]
    return page(request, "fleet.html", title="Fleet", hosts=hosts, vms=worst, risks=risks, count=len(vms))


@routes.get("/vms")
def vms(
    request: Request,
    caller: Viewer,
    site: Here,
    q: Annotated[str, Query(max_length=LONGEST_NAME)] = "",
    order: Order = Order.RISK,
    part: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Every VM; those whose name, host or trust group has these letters in it."""
    said = q.lower()
    found = [vm for vm in site.lately(caller) if said in f"{vm.name}\n{vm.host}\n{vm.trust_group}".lower()]
    found.sort(key=_KEYS[order])
    parts = max(-(-len(found) // OF_A_PAGE), 1)
    shown = found[(min(part, parts) - 1) * OF_A_PAGE :][:OF_A_PAGE]
    return page(
        request, "vms.html", title="VMs", vms=shown, q=q, order=order, orders=list(Order), part=min(part, parts),
        parts=parts, count=len(found),
    )  # fmt: skip


@routes.get("/hosts/{host}")
def host(host: Name, request: Request, caller: Viewer, site: Here, done: Done = "") -> Response:
    """One host: its pools, who lends and borrows, and its VMs by risk."""
    found = site.host(host, caller)
    loop = site.ask("status") if caller.groups is None else {}
    vms = sorted((vm for vm in site.lately(caller) if vm.host == host), key=_KEYS[Order.RISK])
    return page(
        request, "host.html", title=found.name, host=found, cores=loop.get("cores") or {}, vms=vms[:OF_A_PAGE],
        count=len(vms), together=loop.get("groups") or [], leads=loop.get("lead_seconds") or {},
    )  # fmt: skip


@routes.post("/hosts/{host}/{what}")
def change_host(host: Name, what: str, caller: OperatorOfAll, site: Here) -> Response:
    """Put every VM of a host back, or look after all of them again."""
    site.host(host, caller)
    return after_that(f"/hosts/{quote(host)}", _change(site, what))


@routes.get("/vms/{vm}")
def vm(vm: Name, request: Request, caller: Viewer, site: Here, done: Done = "") -> Response:
    """One VM: its forecast fan, what it holds and why, and who was trusted."""
    found = site.vm(vm, caller)
    decisions = [Decision(**each) for each in site.ask("explain", vm=vm, at=None)]
    status, forecasts = site.ask("status"), forecasts_of(site, vm)
    until = (status["last_at"] or 0) + status["step_seconds"]
    return page(
        request, "vm.html", title=found.name, vm=found, decisions={each.resource: each for each in decisions},
        until=until, step=status["step_seconds"], together=_companions(status, found, caller), forecasts=forecasts,
        levels=forecasts[0].levels if forecasts else [],
        events=sorted((event for each in decisions for event in events_of(each)), reverse=True),
    )  # fmt: skip


@routes.post("/vms/{vm}/{what}")
def change_vm(vm: Name, what: str, caller: Operator, site: Here) -> Response:
    """Put a VM back, or look after it again."""
    site.may_change(vm, caller)
    return after_that(f"/vms/{quote(vm)}", _change(site, what, vms=[vm]))


def _change(site: Site, what: str, **which: Any) -> str:
    """Do it; a problem, with every reason, where it could not be done for all. The word for what to say of it."""
    site.forget()
    if what == "restore":
        found = PutBack(**site.ask("restore", **which))
        if found.left:
            raise Refused(409, "not as before: " + "; ".join(f"{vm_id}: {why}" for vm_id, why in found.left))
        return "restored"
    if what == "resume":
        return "resumed" if Resumed(**site.ask("resume", **which)).resumed else "looked-after"
    raise Refused(404, f"{what!r} is nothing that can be done with it")


def _risks(hosts: Sequence[Host], vms: Sequence[Vm]) -> dict[str, float | None]:
    """How likely it is that something on each host falls short, a pool of it or the worst of its VMs; None: unknown."""
    known: dict[str, list[float]] = {host.name: [] for host in hosts}
    for host in hosts:
        known[host.name] += [pool.overload for pool in host.pools if pool.overload is not None and pool.capacity]
    for vm in vms:
        if vm.risk is not None:
            known.setdefault(vm.host, []).append(vm.risk)
    return {name: max(risks, default=None) for name, risks in known.items()}


def _companions(status: dict[str, Any], vm: Vm, caller: Caller) -> list[dict[str, Any]]:
    """Groups of VMs that rise and fall with this one; only for who may see all VMs."""
    if caller.groups is not None:
        return []
    return [group for group in status.get("groups") or [] if vm.name in group["vm_ids"]]
