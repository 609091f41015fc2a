"""The lab's own network: a namespace with a tap for each guest, the host's side of it included."""

from __future__ import annotations

from forestall.lab.commands import run
from forestall.lab.place import Place
from forestall.lab.plan import GuestPlan


def make_network(place: Place) -> None:
    """Make the namespace, if it is not there; packets between guests are passed on."""
    if not place.namespace_path.exists():
        run(["ip", "netns", "add", place.namespace])
        run(["ip", "-n", place.namespace, "link", "set", "lo", "up"])
        run(place.inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"))


def make_tap(place: Place, plan: GuestPlan) -> None:
    """Make the host's end of a guest's interface, if it is not there."""
    ip = ["ip", "-n", place.namespace]
    if f": {plan.tap}:" in run([*ip, "-o", "link", "show"]):
        return
    run([*ip, "tuntap", "add", "dev", plan.tap, "mode", "tap"])
    run([*ip, "addr", "add", f"{plan.host_address}/24", "dev", plan.tap])
    run([*ip, "link", "set", plan.tap, "up"])


def remove_network(place: Place) -> None:
    """Remove the namespace with everything in it, if it is there."""
    if place.namespace_path.exists():
        run(["ip", "netns", "delete", place.namespace])
