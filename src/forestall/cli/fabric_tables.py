"""Tables of the network between VMs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

_BITS = 8


def _rate(bytes_per_s: float) -> str:
    return f"{bytes_per_s * _BITS / 1e6:.4g}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _ways(ways: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"{' > '.join(way['path'])} {way['share']:.0%}" for way in ways)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        left = column in {"switch", "link", "port", "state", "VM", "from", "to", "ways", "class", "address", "id"}
        table.add_column(column, justify="left" if left else "right")
    return table


def switches(found: Mapping[str, Any]) -> Table:
    """Switches."""
    table = _table(f"Switches, mode {found['mode']}", "switch", "id", "state", "ports", "rules")
    for each in found["switches"]:
        state = "connected" if each["connected"] else "away"
        table.add_row(each["name"], each["id"], state, str(each["ports"]), str(each["rules"]))
    return table


def links(found: Mapping[str, Any]) -> Table:
    """Links, each way."""
    table = _table("Links", "link", "port", "state", "Mbit/s", "of", "used", "planned", "if alike", "lost/s")
    for each in found["links"]:
        capacity, sent = each["capacity_bytes_per_s"], each["sent_bytes_per_s"]
        table.add_row(
            each["name"],
            each["port"],
            _state(each),
            _rate(sent),
            _rate(capacity),
            _ratio(sent / capacity if capacity else None),
            _ratio(each["planned_ratio"]),
            _ratio(each["equal_ratio"]),
            f"{each['dropped_per_s']:.3g}",
        )
    return table


def _state(link: Mapping[str, Any]) -> str:
    return "flapping" if link["flapping"] else "up" if link["up"] else "down"


def interfaces(found: Mapping[str, Any]) -> Table:
    """Interfaces of VMs."""
    table = _table("VMs", "VM", "address", "switch", "port", "class", "limit Mbit/s", "sent", "received")
    for each in found["interfaces"]:
        limit = each["limit_bytes_per_s"]
        table.add_row(
            each["vm"],
            each["address"],
            each["switch"],
            each["port"],
            each["class"] or "",
            _rate(limit) if limit else "",
            _rate(each["sent_bytes_per_s"]),
            _rate(each["received_bytes_per_s"]),
        )
    return table


def pairs(found: Mapping[str, Any]) -> Table:
    """Pairs of VMs, and the ways of their traffic."""
    table = _table("Traffic", "from", "to", "Mbit/s", "ways")
    for each in found["pairs"]:
        table.add_row(each["source"], each["target"], _rate(each["bytes_per_s"]), _ways(each["ways"]))
    return table


def link_line(link: Mapping[str, Any]) -> str:
    """One link in a line."""
    return (
        f"{link['name']}: {_state(link)}, {_rate(link['sent_bytes_per_s'])} of "
        f"{_rate(link['capacity_bytes_per_s'])} Mbit/s"
    )


def users(found: Mapping[str, Any]) -> Table:
    """Who uses a link."""
    table = _table("Used by", "from", "to", "share", "Mbit/s", "ways")
    for each in found["users"]:
        rate = _rate(each["bytes_per_s"]) + ("?" if each["estimated"] else "")
        table.add_row(each["source"], each["target"], f"{each['share']:.0%}", rate, _ways(each["ways"]))
    return table
