"""Labels of packets: the number of a path and that of the interface at its end, as an address of Ethernet.

Source: Agarwal et al., Shadow MACs: scalable label-switching for commodity Ethernet, HotSDN 2014.
"""

from __future__ import annotations

from functools import lru_cache

from forestall.fabric.wiring import Route

PATH_MASK, HOST_MASK = "ff:ff:ff:ff:00:00", "ff:00:00:00:ff:ff"
MOST_NAMES = 1 << 17


@lru_cache(maxsize=MOST_NAMES)
def label(path: int, host: int) -> str:
    """The address that stands for both; 0 where one is left open."""
    digits = f"0e{path:06x}{host:04x}"
    return ":".join(digits[k : k + 2] for k in range(0, 12, 2))


def path_of(address: str) -> int:
    """The number of the path in a label."""
    return int(address[3:11].replace(":", ""), 16)


@lru_cache(maxsize=MOST_NAMES)
def name_of(route: Route) -> str:
    """What a route is called, for its number."""
    return "-".join(f"{switch:x}" for switch in route)
