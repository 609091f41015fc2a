"""Which packets wait in which queue of a port: filters of the kernel on the DSCP of IPv4.

The queues are HTB classes that Open vSwitch makes: queue N is class 1:(N + 1), and the first takes what no filter
leads elsewhere. Source: tc-u32(8); netdev-linux.c of Open vSwitch for the numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from forestall.adapters.linux.namespaces import in_network_namespace
from forestall.model.errors import FabricError

_ROOT, _ALL = 0x00010000, 0x0001FFFE
"""What holds the queues of a port, and the class above them."""
_LEAF = 0xF0C0
WAITING_PACKETS = 20
"""So many wait in a queue. Open vSwitch sends to a port through one socket, whose memory holds some 90 packets: if more
could wait, a class that sends too much would leave no place for the others. And what is too much must be dropped at the
head, which is no error to who sends: after one it drops the rest of what it had to send, of whatever class."""
BURST_SECONDS, LEAST_BURST_BYTES = 0.02, 16_000
"""So much a port, and each of its queues, may send at once."""
_PRIORITY = 0xF0CA
_ANY = 0x0003
_WORD, _MASK = 4 << 28, 0xF0FC0000
"""The first word of a header of IPv4: its version, and where DSCP stands. Packets that Open vSwitch forwards by itself
reach the kernel without a protocol, so that a filter for IPv4 alone would not see them."""
MADE_SECONDS, LOOK_SECONDS = 5.0, 0.005
"""So long is waited until Open vSwitch has made its queues, and looked so often."""
T = TypeVar("T")


def burst_bytes(bytes_per_s: float) -> int:
    """How much may be sent at once at such a rate."""
    return max(int(bytes_per_s * BURST_SECONDS), LEAST_BURST_BYTES)


def leads(device: str, namespace: Path | None = None) -> list[int]:
    """Numbers of the queues that we lead packets to, in the order of their DSCP."""
    return _there(device, namespace, _leads)


def lead(device: str, queue: Mapping[int, int], queues: int, bytes_per_s: int, namespace: Path | None = None) -> None:
    """Lead packets of each DSCP to a queue, and no others, of a port of so many that sends so fast altogether.

    Raises
    ------
    FabricError
        Open vSwitch has not made the queues, or the kernel refused.
    """

    def set_them(route: Any, index: int) -> None:
        _until_made(route, index, device, set(range(1, queues + 1)))
        # Open vSwitch lets all queues together send one packet at once: each late timer would be time lost
        burst = burst_bytes(bytes_per_s)
        sizes = {"rate": bytes_per_s, "ceil": bytes_per_s, "burst": burst, "cburst": burst}
        route.tc("change-class", "htb", index, _ALL, parent=_ROOT, **sizes)
        for minor in range(1, queues + 1):
            shape = {"parent": _ROOT | minor, "limit": WAITING_PACKETS}
            route.tc("replace", "pfifo_head_drop", index, (_LEAF + minor) << 16, **shape)
        if _leads(route, index):
            route.tc("del-filter", index=index, parent=_ROOT, info=_PRIORITY << 16)
        for value, number in sorted(queue.items()):
            keys = [f"{_WORD | value << 18:#x}/{_MASK:#x}+0"]
            match = {"protocol": _ANY, "prio": _PRIORITY, "keys": keys, "target": _ROOT | (number + 1)}
            route.tc("add-filter", "u32", index, parent=_ROOT, **match)

    _there(device, namespace, set_them)


def _until_made(route: Any, index: int, device: str, minors: set[int]) -> None:
    ends_at = time.monotonic() + MADE_SECONDS
    while True:
        found = {each["handle"] & 0xFFFF for each in route.get_classes(index) if each["handle"] >> 16 == _ROOT >> 16}
        if minors <= found:
            return
        if time.monotonic() > ends_at:
            raise FabricError(f"port {device}: Open vSwitch has not made its queues")
        time.sleep(LOOK_SECONDS)


def _leads(route: Any, index: int) -> list[int]:
    found = []
    for each in route.get_filters(index=index, parent=_ROOT):
        options = each.get_attr("TCA_OPTIONS")
        class_id = options.get_attr("TCA_U32_CLASSID") if options is not None else None
        if each["info"] >> 16 == _PRIORITY and class_id:
            found.append((each["handle"], (class_id & 0xFFFF) - 1))
    return [queue for _, queue in sorted(found)]


def _there(device: str, namespace: Path | None, work: Callable[[Any, int], T]) -> T:
    from pyroute2 import IPRoute, NetlinkError
    from pyroute2.netlink.rtnl.tcmsg import plugins, sched_pfifo

    plugins.setdefault("pfifo_head_drop", sched_pfifo)  # it has the format of pfifo, and pyroute2 knows the one alone

    def with_socket() -> T:
        with IPRoute(groups=0) as route:
            found = route.link_lookup(ifname=device)
            if not found:
                raise FabricError(f"there is no device {device}")
            return work(route, found[0])

    try:
        return in_network_namespace(namespace, with_socket)
    except NetlinkError as error:
        raise FabricError(f"queues of {device}: {error.args[-1]}") from error
    except OSError as error:
        raise FabricError(f"queues of {device}: {error.strerror or error}") from error
