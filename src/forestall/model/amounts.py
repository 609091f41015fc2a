"""Amounts of resources as people read them."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P")


def amount(value: float | None, resource: str) -> str:
    """An amount as people read it: cores with three digits, bytes with a prefix; a dash where nothing is known."""
    if value is None:
        return "–"
    if resource == "cpu":
        return f"{value:.3g}"
    power = 0
    while abs(value) >= 1024 and power < len(_PREFIXES) - 1:
        value, power = value / 1024, power + 1
    digits = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # 1020 Ki are not 1.02e+03
    return f"{digits}{_PREFIXES[power]}{'i' if power else ''}{'B' if resource == 'memory' else 'B/s'}"
