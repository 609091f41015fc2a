"""Hosts and their VMs: what they do, what was decided and why; put back, and looked after again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from forestall.model.resources import Resource
from forestall.ports.store import LATEST, Resolution
from forestall.service.api import documents as doc
from forestall.service.api.asking import (
    LONGEST_NAME,
    OF_A_CHANGE,
    After,
    Here,
    Limit,
    Name,
    Operator,
    OperatorOfAll,
    Viewer,
    ViewerOfAll,
    page,
    router,
)
from forestall.service.api.problems import answers
from forestall.service.api.site import Site

routes = router()


@routes.get("/hosts", tags=["hosts"])
def hosts(caller: Viewer, site: Here, after: After = None, limit: Limit = 100) -> doc.Page[doc.Host]:
    """Every host, with what its VMs share."""
    return doc.Page[doc.Host](**page(site.hosts(caller), lambda host: host.name, after, limit))


@routes.get("/hosts/{host}", tags=["hosts"], responses=answers(404))
def host(host: Name, caller: Viewer, site: Here) -> doc.Host:
    """One host."""
    return site.host(host, caller)


@routes.get("/hosts/{host}/loop", tags=["hosts"], responses=answers(404))
def loop(host: Name, caller: ViewerOfAll, site: Here) -> dict[str, Any]:
    """What the loop of a host says of itself, as `forestall status --json` prints it."""
    site.host(host, caller)
    found: dict[str, Any] = site.ask("status")
    return found


@routes.post("/hosts/{host}/restore", tags=["hosts"], responses=answers(404, *OF_A_CHANGE))
def restore_all(host: Name, caller: OperatorOfAll, site: Here) -> doc.PutBack:
    """Set every VM of a host as it was before it was ever changed, and leave them alone until resumed."""
    site.host(host, caller)
    return doc.PutBack(**site.ask("restore"))


@routes.post("/hosts/{host}/resume", tags=["hosts"], responses=answers(404, *OF_A_CHANGE))
def resume_all(host: Name, caller: OperatorOfAll, site: Here) -> doc.Resumed:
    """Look after all VMs of a host again that were left alone."""
    site.host(host, caller)
    return doc.Resumed(**site.ask("resume"))


@routes.get("/vms", tags=["VMs"])
def vms(
    caller: Viewer,
    site: Here,
    after: After = None,
    limit: Limit = 100,
    host: Annotated[str | None, Query(max_length=LONGEST_NAME, description="Of this host only.")] = None,
    group: Annotated[str | None, Query(max_length=LONGEST_NAME, description="Of this trust group only.")] = None,
    min_risk: Annotated[float | None, Query(ge=0.0, le=1.0, description="With at least this risk.")] = None,
) -> doc.Page[doc.Vm]:
    """Every VM at the last cycle: demand, forecast, allocation, risk, and the last ruling with its reason."""
    found = [
        vm
        for vm in site.vms(caller)
        if (host is None or vm.host == host)
        and (group is None or vm.trust_group == group)
        and (min_risk is None or (vm.risk or 0.0) >= min_risk)
    ]
    return doc.Page[doc.Vm](**page(found, lambda vm: vm.name, after, limit))


@routes.get("/vms/{vm}", tags=["VMs"], responses=answers(404))
def vm(vm: Name, caller: Viewer, site: Here) -> doc.Vm:
    """One VM at the last cycle."""
    return site.vm(vm, caller)


@routes.get("/vms/{vm}/decisions", tags=["VMs"], responses=answers(404))
def decisions(
    vm: Name,
    caller: Viewer,
    site: Here,
    at: Annotated[int | None, Query(ge=0, lt=1 << 40, description="Instant, seconds; default: now.")] = None,
) -> list[doc.Decision]:
    """The decision in force for each resource of a VM, with all that led to it and what came of it."""
    site.vm(vm, caller)
    return [doc.Decision(**each) for each in site.ask("explain", vm=vm, at=at)]


@routes.get("/vms/{vm}/forecasts", tags=["VMs"], responses=answers(404))
def forecasts(vm: Name, caller: Viewer, site: Here) -> list[doc.Forecast]:
    """What a VM was forecast to demand at the last cycle: quantiles for each horizon of each resource."""
    site.vm(vm, caller)
    return forecasts_of(site, vm)


def forecasts_of(site: Site, vm: str) -> list[doc.Forecast]:
    """What a VM was forecast to demand, of each resource that is forecast."""
    return [
        doc.Forecast(
            unit=Resource(each["resource"]).unit,
            **{
                **each,
                "targets": [
                    target | {"quantiles": line}
                    for target, line in zip(each["targets"], each["quantiles"], strict=True)
                ],
            },
        )
        for each in site.ask("forecast", vm=vm)
    ]


@routes.get("/vms/{vm}/history", tags=["VMs"], responses=answers(404, 409))
def history(
    vm: Name,
    caller: Viewer,
    site: Here,
    since: Annotated[int, Query(ge=0, lt=LATEST, description="Instant, seconds.")],
    until: Annotated[int, Query(ge=0, lt=LATEST, description="Instant, seconds; not itself.")],
    resolution: Annotated[Resolution, Query(description="As sampled, or in means of 5 minutes or of an hour.")] = (
        Resolution.FIVE_MINUTES
    ),
) -> list[doc.History]:
    """What a VM was measured to demand, and what it was provisioned with."""
    site.vm(vm, caller)
    found = site.ask("history", vm=vm, since=since, until=until, resolution=resolution.value)
    return [doc.History(unit=Resource(each["resource"]).unit, **each) for each in found]


@routes.post("/vms/{vm}/restore", tags=["VMs"], responses=answers(404, *OF_A_CHANGE))
def restore(vm: Name, caller: Operator, site: Here) -> doc.PutBack:
    """Set a VM as it was before it was ever changed, and leave it alone until resumed."""
    site.may_change(vm, caller)
    return doc.PutBack(**site.ask("restore", vms=[vm]))


@routes.post("/vms/{vm}/resume", tags=["VMs"], responses=answers(404, *OF_A_CHANGE))
def resume(vm: Name, caller: Operator, site: Here) -> doc.Resumed:
    """Look after a VM again that was left alone."""
    site.may_change(vm, caller)
    return doc.Resumed(**site.ask("resume", vms=[vm]))
