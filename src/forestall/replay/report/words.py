"""Numbers and instants in words, as a person reads them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from forestall.model.instants import day_and_hour
from forestall.model.resources import Resource

LABELS = {
    Resource.CPU: "CPU",
    Resource.MEMORY: "Memory",
    Resource.DISK_READ: "Disk read",
    Resource.DISK_WRITE: "Disk write",
    Resource.NET_RX: "Network receive",
    Resource.NET_TX: "Network send",
}
"""What a resource is called."""
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def percent(share: float) -> str:
    """A share of 1 with two significant digits: ``0.98 %``; an en dash for NaN."""
    if math.isnan(share):
        return "–"
    value = float(f"{100.0 * share:.2g}") if abs(share) < 0.9995 else 100.0 * share
    digits = 0 if abs(value) >= 99.95 or value == 0 else max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 3)}f} %".replace("-", "−")


def exact(share: float) -> str:
    """A share of 1 that somebody chose, as it was written: ``0.5 %``, ``99.95 %``."""
    return f"{100.0 * share:.6g} %"


def number(value: float, digits: int = 2) -> str:
    """A plain number; an en dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def small(value: float) -> str:
    """A number of any size with three significant digits; an en dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.3g}"


def cores(count: float) -> str:
    """Cores of a host: ``2 cores``, ``1 core``."""
    return f"{count:g} core{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it: ``40 s``, ``5 min``, ``3 h``, ``8 days``; an en dash for NaN."""
    if math.isnan(seconds):
        return "–"
    for size, unit in ((172_800, "days"), (3600, "h"), (120, "min")):
        if seconds >= size:
            one = {"days": 86_400, "h": 3600, "min": 60}[unit]
            return f"{round(seconds / one, 1):g} {unit}"
    return f"{round(seconds, 1):g} s"


def size(count: float) -> str:
    """Bytes: ``1.2 GB``."""
    return f"{scaled(count)}B"


def scaled(value: float) -> str:
    """A number with an SI prefix and a space before it: ``1.2 G``."""
    for scale, prefix in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g} "


def instant(seconds: int, calendar: bool) -> str:
    """An instant: a date where the trace has one, else its day and hour."""
    if calendar:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return day_and_hour(seconds)


def amount(value: float, resource: Resource) -> str:
    """An amount of a resource with its unit."""
    unit = {"cores": "cores", "bytes": "B", "bytes_per_s": "B/s"}[resource.unit]
    return f"{number(value, 1)} cores" if unit == "cores" else f"{scaled(value)}{unit}"
