"""Commands that ask the API of another host, and show what the daemon there would answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from forestall.model.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from forestall.client import Client
    from forestall.settings.remote import Remote

Request = Mapping[str, Any]
TOO_LATE = 412


@contextmanager
def client_of(remote: Remote) -> Iterator[Client]:
    """A client of that API."""
    from forestall.client import Client

    with Client(remote.url, remote.token, authority=remote.authority) as client:
        yield client


def ask_remote(remote: Remote, request: Request) -> Any:
    """The answer to a request, as the daemon's control socket would give it.

    Raises
    ------
    WrongUse
        The API does not tell that.
    ApiError
        It refused, or cannot be reached.
    """
    command = str(request["command"])
    if command not in _KNOWN:
        raise WrongUse("FORESTALL_API is set, and the API does not tell this: unset it, and ask on the host")
    with client_of(remote) as client:
        return _KNOWN[command](client, request)


def _status(client: Client, request: Request) -> Any:
    hosts = client.hosts()
    if len(hosts) != 1:
        raise WrongUse(f"{len(hosts)} hosts are known there; this command is about one")
    return client.loop(hosts[0].name)


def _vms(client: Client, request: Request) -> Any:
    return [
        {**_plain(each), "vm_id": vm.name, "host": vm.host, "trust_group": vm.trust_group}
        for vm in client.vms()
        for each in vm.resources
    ]


def _restore(client: Client, request: Request) -> Any:
    if request["vms"] is None:
        answers = [client.restore_host(host.name) for host in client.hosts()]
    else:
        answers = [client.restore(vm) for vm in request["vms"]]
    return {
        "restored": [vm for answer in answers for vm in answer.restored],
        "left": [list(pair) for answer in answers for pair in answer.left],
    }


def _resume(client: Client, request: Request) -> Any:
    if request["vms"] is None:
        answers = [client.resume_host(host.name) for host in client.hosts()]
    else:
        answers = [client.resume(vm) for vm in request["vms"]]
    return {"resumed": [vm for answer in answers for vm in answer.resumed]}


def _trust_groups(client: Client, request: Request) -> Any:
    return [_plain(each) for each in client.trust_groups()]


def _trust_group(client: Client, request: Request) -> Any:
    do, group, vms = request["do"], request["group"], request.get("vms", ())
    if do == "create":
        client.create_trust_group(group)
    elif do == "delete":
        client.delete_trust_group(group)
    elif do in ("add", "remove"):
        for vm in vms:
            (client.add_member if do == "add" else client.remove_member)(group, vm)
    elif do == "set-horizon":
        client.change_trust_group(group, horizon_seconds=request["seconds"])
    else:
        client.change_trust_group(group, shadowing=do == "enable-shadowing")
    return _trust_groups(client, request)


def _statistics(client: Client, request: Request) -> Any:
    if request.get("group") is None or request.get("least_vms", 1) > 1:
        raise WrongUse("the API tells statistics of one group, whole: name it")
    return client.group_statistics(request["group"])


def _preallocate(client: Client, request: Request) -> Any:
    from forestall.service.api.documents import NewPreallocation

    wanted = {key: value for key, value in request.items() if key != "command" and value is not None}
    return _plain(client.preallocate(NewPreallocation(**wanted)))


def _policy(client: Client, request: Request) -> Any:
    number = request.get("version")
    return _plain(client.policies() if number is None else client.policy_version(number))


def _apply(client: Client, request: Request) -> Any:
    from forestall.model.errors import ApiError

    try:
        done = client.apply_policies(request["text"], request["comment"], request["base"])
    except ApiError as error:
        if error.status != TOO_LATE:
            raise
        return {"applied": False, "policy": _plain(client.policies())}
    return {"applied": True, "policy": _plain(done)}


def _plain(document: BaseModel) -> dict[str, Any]:
    return document.model_dump(mode="json")


_KNOWN: Mapping[str, Callable[[Client, Request], Any]] = {
    "status": _status,
    "vms": _vms,
    "explain": lambda client, request: [_plain(each) for each in client.decisions(request["vm"], request["at"])],
    "restore": _restore,
    "resume": _resume,
    "trust-groups": _trust_groups,
    "trust-group": _trust_group,
    "shadowing": _statistics,
    "preallocations": lambda client, request: [_plain(each) for each in client.preallocations()],
    "preallocate": _preallocate,
    "cancel-preallocation": lambda client, request: _plain(client.cancel_preallocation(request["name"])),
    "policy": _policy,
    "policies": lambda client, request: [_plain(each) for each in reversed(client.policy_versions())],
    "apply-policy": _apply,
    "fabric": lambda client, request: _plain(client.fabric()),
    "fabric-plan": lambda client, request: _plain(client.fabric_plan()),
    "fabric-apply": lambda client, request: _plain(client.apply_fabric()),
    "fabric-explain": lambda client, request: _plain(client.fabric_link(request["link"])),
}
