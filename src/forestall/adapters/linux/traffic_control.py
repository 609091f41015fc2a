"""Limits on what a VM sends and receives, by the kernel's traffic control.

Each direction of a VM has an ifb device with one HTB class on it; on each tap of the VM a ``clsact`` qdisc sends what
the guest receives (egress of the tap) and sends (ingress of the tap) through it. So several taps share one limit, the
qdisc at the root of a tap, whoever owns it, is never touched, and to remove ``clsact`` and the ifb devices is to put
everything back. Measured here on a TCG guest: 2.02 MB/s received at a limit of 2, 0.47 MB/s sent at 0.5.

Ours are the handle ``f0ca:`` on the ifb devices and the filters of priority 61642 and 61643 (0xf0ca, 0xf0cb) on the
taps. Sources: tc-htb(8), tc-mirred(8), clsact in tc(8).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from forestall.adapters.linux.namespaces import in_network_namespace
from forestall.model.errors import HypervisorError, Unsupported
from forestall.model.resources import Resource
from forestall.ports.traffic import Taps

_HANDLE, _CLASS = 0xF0CA0000, 0xF0CA0001
_PRIORITY = {Resource.NET_RX: 0xF0CA, Resource.NET_TX: 0xF0CB}
"""Of our filters. Both hooks of a tap share one table of u32 filters, where the priority tells them apart."""
_ROOT, _CLSACT = 0xFFFFFFFF, 0xFFFF0000
_HOOK = {Resource.NET_RX: 0xFFFFFFF3, Resource.NET_TX: 0xFFFFFFF2}
"""Where a tap's packets are caught: what the guest receives leaves the tap, what it sends comes in."""
_LETTER = {Resource.NET_RX: "r", Resource.NET_TX: "t"}
_DEFAULT_QDISCS = frozenset({"noqueue", "pfifo_fast", "pfifo", "fq_codel", "fq", "mq", "sfq", "noop"})
_LEAST_BURST_BYTES = 32 * 1024
_QUEUE, _QUEUE_SECONDS, _LEAST_QUEUE_BYTES = 0xF0CB0000, 0.2, 96 * 1024
"""What waits, waits for so long at most: a longer queue makes a limited VM deaf, not slower."""
_MOST_BYTES_PER_S = 2**32 - 1
_QUEUE_PACKETS = 1000
_ALL_PROTOCOLS = 0x0003
T = TypeVar("T")


class TrafficControl:
    """Limits of VMs, read from the kernel and written to it; nothing is remembered here."""

    def refusal(self, taps: Taps) -> str:
        """Why the VM's traffic cannot be limited; empty if it can."""
        try:
            return _there(taps, lambda route: _refusal(route, taps))
        except Unsupported as error:
            return str(error)

    def limits(self, taps: Taps) -> Mapping[Resource, float]:
        """Bytes/s in force in both directions; inf where there is no limit of ours."""
        return _there(taps, lambda route: {r: _limit(route, taps, r) for r in _HOOK})

    def limit(self, taps: Taps, resource: Resource, bytes_per_s: float) -> float:
        """Set a direction's limit; inf, or 4 GiB/s and more, removes it. What should be in force is returned."""
        if bytes_per_s >= _MOST_BYTES_PER_S:
            _there(taps, lambda route: _remove(route, taps, resource))
            return math.inf
        rate = max(math.ceil(bytes_per_s), 1)
        _there(taps, lambda route: _install(route, taps, resource, rate))
        return float(rate)

    def sweep(self, namespace: Path | None = None) -> None:
        """Remove what limited VMs that are gone: ifb devices of ours, to which no tap leads any more."""
        _there(Taps((), namespace, ""), _sweep)


def _there(taps: Taps, work: Callable[[Any], T]) -> T:
    """Do ``work`` with a netlink socket in the taps' namespace, errors translated."""
    try:
        from pyroute2 import IPRoute, NetlinkError
        from pyroute2.netlink.rtnl.tcmsg import plugins, sched_pfifo
    except ImportError as error:
        raise Unsupported("pyroute2 is not installed: install forestall with the extra 'live'") from error

    # bfifo has the format of pfifo, its limit in bytes (tc-bfifo(8)); pyroute2 knows the one and not the other.
    plugins.setdefault("bfifo", sched_pfifo)

    def with_socket() -> T:
        with IPRoute(groups=0) as route:
            return work(route)

    try:
        return in_network_namespace(taps.namespace, with_socket)
    except NetlinkError as error:
        raise HypervisorError(f"traffic control of {', '.join(taps.devices)}: {error.args[-1]}") from error
    except OSError as error:
        raise HypervisorError(f"traffic control of {', '.join(taps.devices)}: {error.strerror or error}") from error


def _refusal(route: Any, taps: Taps) -> str:
    links = _links(route)
    for device in taps.devices:
        link = links.get(device)
        if link is None:
            return f"there is no device {device} here"
        if any(index == link.get("master") and kind == "openvswitch" for index, kind in _kinds(links)):
            return f"{device} is a port of Open vSwitch, which owns its QoS"
        for qdisc in route.get_qdiscs(link["index"]):
            kind, parent = qdisc.get_attr("TCA_KIND"), qdisc["parent"]
            if parent == _ROOT and kind not in _DEFAULT_QDISCS:
                return f"{device} has a qdisc {kind} that somebody else set"
        if any(not ours for ours in _filters(route, link["index"])) or _foreign_ingress(route, link["index"]):
            return f"{device} has filters that somebody else set"
    return ""


def _foreign_ingress(route: Any, index: int) -> bool:
    return any(qdisc.get_attr("TCA_KIND") == "ingress" for qdisc in route.get_qdiscs(index))


def _filters(route: Any, index: int) -> list[bool]:
    """For each filter at a tap's hooks whether it is ours."""
    if not _has_clsact(route, index):
        return []
    found = (filter_ for hook in _HOOK.values() for filter_ in route.get_filters(index=index, parent=hook))
    return [filter_["info"] >> 16 in _PRIORITY.values() for filter_ in found]


def _has_clsact(route: Any, index: int) -> bool:
    return any(qdisc.get_attr("TCA_KIND") == "clsact" for qdisc in route.get_qdiscs(index))


def _links(route: Any) -> dict[str, Any]:
    return {link.get("ifname"): link for link in route.get_links()}


def _kinds(links: Mapping[str, Any]) -> list[tuple[int, str | None]]:
    return [(link["index"], link.get(("linkinfo", "kind"))) for link in links.values()]


def _limit(route: Any, taps: Taps, resource: Resource) -> float:
    """Limit of a direction, if every tap leads to it."""
    links = _links(route)
    shaper = links.get(shaper_of(taps, resource))
    if shaper is None or not all(_leads(route, links, device, resource) for device in taps.devices):
        return math.inf
    for class_ in route.get_classes(shaper["index"]):
        if class_["handle"] == _CLASS:
            return float(class_.get_attr("TCA_OPTIONS").get_attr("TCA_HTB_PARMS")["rate"])
    return math.inf


def _leads(route: Any, links: Mapping[str, Any], device: str, resource: Resource) -> bool:
    if device not in links or not _has_clsact(route, links[device]["index"]):
        return False
    found = route.get_filters(index=links[device]["index"], parent=_HOOK[resource])
    return any(filter_["info"] >> 16 == _PRIORITY[resource] for filter_ in found)


def _install(route: Any, taps: Taps, resource: Resource, bytes_per_s: int) -> None:
    if reason := _refusal(route, taps):
        raise Unsupported(reason)
    links, name = _links(route), shaper_of(taps, resource)
    if name not in links:
        route.link("add", ifname=name, kind="ifb", txqlen=_QUEUE_PACKETS)
    shaper = route.link_lookup(ifname=name)[0]
    route.link("set", index=shaper, state="up", ifalias=_alias([links[device]["index"] for device in taps.devices]))
    _shape(route, shaper, bytes_per_s)
    for device in taps.devices:
        index = links[device]["index"]
        if not _has_clsact(route, index):
            route.tc("add", "clsact", index)
        if not _leads(route, links, device, resource):
            _lead(route, index, resource, shaper)


def _shape(route: Any, shaper: int, bytes_per_s: int) -> None:
    if not any(q["handle"] == _HANDLE for q in route.get_qdiscs(shaper)):
        route.tc("replace", "htb", shaper, _HANDLE, parent=_ROOT, default=_CLASS & 0xFFFF)
    burst = max(bytes_per_s // 50, _LEAST_BURST_BYTES)
    sizes = {"rate": bytes_per_s, "ceil": bytes_per_s, "burst": burst, "cburst": burst}
    route.tc("replace-class", "htb", shaper, _CLASS, parent=_HANDLE, quantum=60_000, **sizes)
    queue_bytes = min(max(int(bytes_per_s * _QUEUE_SECONDS), _LEAST_QUEUE_BYTES), 2**31 - 1)
    route.tc("replace", "bfifo", shaper, _QUEUE, parent=_CLASS, limit=queue_bytes)


def _lead(route: Any, index: int, resource: Resource, shaper: int) -> None:
    """Send all packets of a direction to a shaper; they come back behind it."""
    redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": shaper}
    match = {"protocol": _ALL_PROTOCOLS, "prio": _PRIORITY[resource], "keys": ["0x0/0x0+0"], "target": 0x10001}
    route.tc("add-filter", "u32", index, parent=_HOOK[resource], action=redirect, **match)


def _remove(route: Any, taps: Taps, resource: Resource) -> None:
    """Undo :func:`_install`, whatever of it is there."""
    links = _links(route)
    shaper = links.get(shaper_of(taps, resource))
    for device in taps.devices if shaper is not None else ():
        if device not in links or not _has_clsact(route, links[device]["index"]):
            continue
        if _leads(route, links, device, resource):
            route.tc("del-filter", index=links[device]["index"], parent=_HOOK[resource], info=_PRIORITY[resource] << 16)
        if not _filters(route, links[device]["index"]):
            route.tc("del", "clsact", links[device]["index"])
    if shaper is not None:
        route.link("del", index=shaper["index"])


def _alias(indexes: Sequence[int]) -> str:
    return f"forestall {' '.join(map(str, indexes))}"


def _sweep(route: Any) -> None:
    links = _links(route)
    present = {link["index"] for link in links.values()}
    for name, link in links.items():
        words = (link.get("ifalias") or "").split()
        if name.startswith("f0ca") and words[:1] == ["forestall"] and present.isdisjoint(map(int, words[1:])):
            route.link("del", index=link["index"])


def shaper_of(taps: Taps, resource: Resource) -> str:
    """Name of the ifb device of a direction."""
    return f"f0ca{hashlib.sha256(taps.identity.encode()).hexdigest()[:8]}{_LETTER[resource]}"
