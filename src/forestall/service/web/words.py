"""Numbers and decisions in words, for templates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from forestall.model.amounts import amount
from forestall.model.decision import Result
from forestall.model.instants import CALENDAR_FROM, day_and_hour
from forestall.model.resources import Resource
from forestall.service.api.documents import Decision

_KIND = {"cpu": "CPU", "memory": "memory", "disk_read": "disk reads", "disk_write": "disk writes"} | {
    "net_rx": "network in",
    "net_tx": "network out",
}
HIGH = 0.99
SOME, MUCH = 0.05, 0.2
"""From which risk on it is worth a look, and worth getting up."""


def kind(resource: str) -> str:
    """A resource by its everyday name."""
    return _KIND[resource]


def quantity(value: float | None, resource: str) -> str:
    """An amount with its unit."""
    told = amount(value, resource)
    if value is None or resource != Resource.CPU:
        return told
    return f"{told} core" if told == "1" else f"{told} cores"


def chance(probability: float | None) -> str:
    """A probability: ``3.2 %``; what is next to nothing is said to be that."""
    if probability is None or math.isnan(probability):
        return "–"
    share = 100.0 * probability
    if 0.0 < share < 0.01:
        return "< 0.01 %"
    return f"{share:.2g} %" if share < 10 else f"{share:.0f} %"


def instant(seconds: float | None) -> str:
    """An instant: a date, or day and hour of what has none."""
    if seconds is None:
        return "–"
    if seconds < CALENDAR_FROM:
        return day_and_hour(int(seconds))
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def lasting(seconds: float | None) -> str:
    """A length of time in its two largest units: ``3 h 20 min``."""
    if seconds is None:
        return "–"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])


def ratio(part: float | None, whole: float | None) -> float | None:
    """Which share of a whole a part is, from 0 to 1; None where either is not known or there is no end."""
    if part is None or not whole or not math.isfinite(whole):
        return None
    return min(max(part / whole, 0.0), 1.0)


def bits(bytes_per_s: float | None) -> str:
    """A rate as networks count it."""
    if bytes_per_s is None:
        return "–"
    value, prefixes = 8.0 * bytes_per_s, ["", "k", "M", "G", "T"]
    while value >= 1000.0 and len(prefixes) > 1:
        value, prefixes = value / 1000.0, prefixes[1:]
    digits = f"{value:.0f}" if value >= 100.0 else f"{value:.3g}"
    if digits == "1000" and len(prefixes) > 1:  # 999.8 M, as rounded
        digits, prefixes = "1", prefixes[1:]
    return f"{digits} {prefixes[0]}bit/s"


def trusted(experts: Mapping[str, float | None]) -> list[tuple[str, float]]:
    """Who was trusted, the most trusted first."""
    known = [(name, weight) for name, weight in experts.items() if weight is not None]
    return sorted(known, key=lambda one: -one[1])


def explained(decision: Decision) -> str:
    """Why a VM has what it has, in a few sentences."""
    told = [f"{_held(decision)}: {decision.reason or decision.ruling.value}."]
    for level, value in decision.quantiles:
        if level == HIGH and value is not None:
            most = value if decision.limit is None else min(value, decision.limit)
            told.append(f"In 99 of 100 cases it is expected to demand at most {quantity(most, decision.resource)}.")
    if decision.probability is not None and decision.budget is not None:
        told.append(
            f"The chance of falling short that is taken now is {chance(decision.probability)}; "
            f"it may happen in {chance(decision.budget)} of its intervals."
        )
    if decision.price:
        told.append(f"The pool is tight: λ is {figure(decision.price)}, its weight {figure(decision.weight)}.")
    if best := trusted(decision.experts)[:1]:
        told.append(f"Most trusted: {best[0][0]} ({best[0][1]:.0%}).")
    return " ".join(told)


def _held(decision: Decision) -> str:
    """What it holds or would hold, and what became of the last attempt to set it."""
    outcome, name = decision.outcome, decision.resource
    of_limit = f" of {quantity(decision.limit, name)}" if decision.limit is not None else ""
    wanted = decision.allocated if decision.granted is None else decision.granted
    if decision.restored is not None:
        at = instant(decision.restored.at)
        return (
            f"Was put back as it was at {at} ({decision.restored.why}); would hold {quantity(wanted, name)}{of_limit}"
        )
    if outcome is None:
        return f"Would hold {quantity(wanted, name)}{of_limit}"
    when = f" at {instant(outcome.at)}" if outcome.at is not None else ""
    holds = f"{quantity(outcome.read_back, name)}{of_limit}"
    if outcome.result is Result.DONE:
        return f"Holds {holds}, set{when}"
    why = f" ({outcome.reason})" if outcome.reason else ""
    became = "is on its way" if outcome.result is Result.PENDING else outcome.result.value
    return f"Holds {holds}; to set it to {quantity(outcome.amount, name)} {became}{when}{why}"


def events_of(decision: Decision) -> list[tuple[int, str]]:
    """What happened to a VM by a decision, with instants: what was set, and that it was put back."""
    found, name = [], decision.resource
    if (outcome := decision.outcome) is not None and outcome.at is not None:
        why = f" ({outcome.reason})" if outcome.reason else ""
        found.append((outcome.at, f"{kind(name)} set to {quantity(outcome.amount, name)}: {outcome.result.value}{why}"))
    if decision.restored is not None:
        found.append((decision.restored.at, f"{kind(name)} put back as it was: {decision.restored.why}"))
    return found


def figure(value: float | None) -> str:
    """A number with three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"


def of(used: float | None, whole: float | None, resource: str) -> str:
    """How much of how much; only how much where there is no end."""
    told = quantity(used, resource)
    return told if whole is None else f"{told} of {quantity(whole, resource)}"


def level(probability: float | None) -> str:
    """How a risk is to be taken: ``high``, ``some``, ``low`` or ``unknown``."""
    if probability is None or math.isnan(probability):
        return "unknown"
    return "high" if probability >= MUCH else "some" if probability >= SOME else "low"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a row, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def more(there: int, shown: int) -> str:
    """How many more there are than are shown, if any."""
    return f"; {there - shown} more are not shown" if there > shown else ""


_ALL = (kind, quantity, of, chance, level, instant, lasting, ratio, figure, bits, trusted, explained, listed, more)
FILTERS: Mapping[str, Any] = {each.__name__: each for each in _ALL}
"""For templates, by name."""
