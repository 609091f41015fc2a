"""What the API knows of the site behind it: hosts and their VMs, as whoever looks after them tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from forestall.model.resources import Resource
from forestall.ports.token_book import Role
from forestall.service.access.tokens import Caller
from forestall.service.api.documents import Host, Pool, Vm, VmResource
from forestall.service.api.problems import Refused

Asking = Callable[[Mapping[str, Any]], Any]
"""Asks the daemon (:func:`forestall.service.control.ask`); None: none runs."""


EVERYBODY = Caller("everybody", Role.VIEWER)
"""Who looks for all; each is shown what they may see."""
LATELY_SECONDS = 1.0


class Site:
    """One daemon and its host.

    Parameters
    ----------
    asking
        Asks it.
    monotonic
        Tells seconds.
    """

    def __init__(self, asking: Asking, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._asking, self._monotonic = asking, monotonic
        self._known: tuple[float, list[Vm]] | None = None
        self._turn = threading.Lock()

    def ask(self, command: str, **values: Any) -> Any:
        """Ask the daemon; a problem where none runs."""
        found = self._asking({"command": command, **values})
        if found is None:
            if command.startswith("fabric"):
                raise Refused(409, "nobody looks after the network here: forestall fabric run")
            raise Refused(503, "no daemon runs here: nobody can tell", {"Retry-After": "5"})
        return found

    def hosts(self, caller: Caller) -> list[Host]:
        """Every host."""
        return [self._host(self.ask("status"), caller)]

    def host(self, name: str, caller: Caller) -> Host:
        """A host; a problem where there is none of that name."""
        found = next((host for host in self.hosts(caller) if host.name == name), None)
        if found is None:
            raise Refused(404, f"there is no host {name!r}")
        return found

    def vms(self, caller: Caller, names: list[str] | None = None) -> list[Vm]:
        """Every VM that the caller may see, by name; of those names, if any are given."""
        found: dict[str, Vm] = {}
        for row in self.ask("vms", vms=names):
            if not caller.sees(row["trust_group"]):
                continue
            vm = found.setdefault(
                row["vm_id"],
                Vm(name=row["vm_id"], host=row["host"], trust_group=row["trust_group"], risk=None, resources=[]),
            )
            resource = VmResource(unit=Resource(row["resource"]).unit, **row)
            vm.resources.append(resource)
            if resource.risk is not None:
                vm.risk = max(vm.risk or 0.0, resource.risk)
        return [vm for _, vm in sorted(found.items())]

    def lately(self, caller: Caller) -> list[Vm]:
        """As :meth:`vms`, and as of a second ago: for lists on pages, which many look at, all when a cycle is over."""
        with self._turn:
            now = self._monotonic()
            if self._known is None or now - self._known[0] > LATELY_SECONDS:
                self._known = now, self.vms(EVERYBODY)
            found = self._known[1]
        return [vm for vm in found if caller.sees(vm.trust_group)]

    def forget(self) -> None:
        """Look anew: something was changed."""
        self._known = None

    def vm(self, name: str, caller: Caller) -> Vm:
        """A VM; a problem where the caller may see none of that name."""
        found = self.vms(caller, [name])
        if not found:
            raise Refused(404, f"there is no VM {name!r} here, or it was not looked at yet")
        return found[0]

    def may_change(self, name: str, caller: Caller) -> None:
        """A problem where the caller may see no VM of that name; one that was changed is there without a cycle, too."""
        if caller.groups is not None or name not in self.ask("status")["altered"]:
            self.vm(name, caller)

    def _host(self, status: Mapping[str, Any], caller: Caller) -> Host:
        pools = [Pool(unit=Resource(pool["resource"]).unit, **pool) for pool in status["pools"]]
        found = {**status, "name": status["host"], "pools": pools}
        if caller.groups is not None:  # what all VMs do together would tell what the others do
            seen = {vm.name for vm in self.vms(caller)}
            altered = [vm_id for vm_id in status["altered"] if vm_id in seen]
            found |= {"altered": altered, "vms": len(seen), "pools": []}
        return Host(**found)
