"""Values of options that are more than one word."""

from __future__ import annotations

import re

from forestall.model.errors import WrongUse
from forestall.model.resources import Resource

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_budgets(text: str) -> tuple[float, ...]:
    """Violation budgets from ``0.05,0.01``, each in (0, 0.5), none twice."""
    budgets = []
    for part in text.split(","):
        try:
            budget = float(part)
        except ValueError as error:
            raise WrongUse(f"--violation-budget {text}: {part.strip()!r} is not a number") from error
        if not 0 < budget < 0.5:
            raise WrongUse(f"--violation-budget {text}: {part.strip()} is not between 0 and 0.5")
        budgets.append(budget)
    if len(set(budgets)) < len(budgets):
        raise WrongUse(f"--violation-budget {text}: a budget is there twice")
    return tuple(budgets)


def parse_resources(text: str | None) -> tuple[Resource, ...]:
    """Resources from ``cpu,memory``; none means all that a trace has."""
    if text is None:
        return ()
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in set(Resource):
            raise WrongUse(f"--resources {text}: {name!r} is none of {', '.join(Resource)}")
    return tuple(Resource(name) for name in dict.fromkeys(names))


def parse_capacity(text: str) -> dict[Resource, float]:
    """Amounts by resource from ``cpu=16,memory=64e9``, each above 0."""
    found: dict[Resource, float] = {}
    for part in text.split(","):
        name, _, amount = part.partition("=")
        (resource,) = parse_resources(name)
        try:
            found[resource] = float(amount)
        except ValueError as error:
            raise WrongUse(f"--capacity {text}: {amount.strip()!r} is not a number") from error
        if not 0 < found[resource] < 1e18:
            raise WrongUse(f"--capacity {text}: {amount.strip()} must be above 0")
    return found


def parse_parts(text: str) -> frozenset[str]:
    """Parts to leave out from ``recurrent,calibration``; nothing means none."""
    from forestall.replay.demand_replay import PARTS

    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in PARTS:
            raise WrongUse(f"--without {text}: {name!r} is none of {', '.join(PARTS)}")
    return frozenset(names)


def parse_duration(text: str, *, what: str) -> float:
    """Seconds from ``90``, ``90s``, ``30m``, ``1.5h`` or ``7d``; ``what`` names the option."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip(), re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds < 1e10:
        raise WrongUse(f"{what} {text}: give a number and s, m, h or d, as 90s, 30m, 1h or 7d")
    return seconds
