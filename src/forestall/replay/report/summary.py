"""The numbers of a replay as plain values, for ``summary.json``: NaN is null, keys keep their order."""

from __future__ import annotations

import math
from dataclasses import fields
from enum import Enum

from forestall.replay.result import CurvePoint, ReplayResult, SlackRow
from forestall.replay.scores.allocation import AllocationScores
from forestall.replay.scores.totals import VmTotals

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def summary(result: ReplayResult) -> dict[str, Json]:
    """Everything but the arrays over time and over VMs."""
    return {
        "header": plain(result.header),
        "resources": _by_resource(result.headlines),
        "calibration": [_point(p) for p in result.calibration],
        "policies": [_point(p) for p in result.points],
        "slack_at_equal_violations": [_slack(row) for row in result.slack],
        "forecasts": [plain(f) for f in result.forecasts],
        "risk": [plain(r) for r in result.risk],
        "reliability": [plain(r) for r in result.reliability],
        "pools": [
            {
                "host": p.host,
                "resource": p.resource.value,
                "capacity": p.capacity,
                "scores": plain(p.scores),
                "others": {name: plain(scores) for name, scores in p.others},
            }
            for p in result.pools
        ],
    }


def plain(value: object) -> Json:
    """A value of frozen dataclasses, tuples and numbers as JSON knows it; per-VM totals are left out.

    Raises
    ------
    TypeError
        For anything that has no place in a summary, such as an array.
    """
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}  # type: ignore[arg-type]
        return {name: plain(part) for name, part in parts.items() if not isinstance(part, VmTotals)}
    raise TypeError(f"{type(value).__name__} has no place in a summary")


def scores_of(scores: AllocationScores) -> dict[str, Json]:
    """Allocation scores without the totals of each VM."""
    return {f.name: plain(getattr(scores, f.name)) for f in fields(scores) if f.name != "per_vm"}


def _point(point: CurvePoint) -> dict[str, Json]:
    named: dict[str, Json] = {
        "policy": point.policy,
        "variant": point.variant.value,
        "resource": point.resource.value,
        "setting": plain(point.setting),
    }
    return named | scores_of(point.scores)


def _by_resource(points: tuple[CurvePoint, ...]) -> dict[str, Json]:
    grouped: dict[str, Json] = {}
    for point in points:
        entries = grouped.setdefault(point.resource.value, [])
        assert isinstance(entries, list)
        entries.append(_point(point))
    return grouped


def _slack(row: SlackRow) -> dict[str, Json]:
    return {
        "policy": row.policy,
        "resource": row.resource.value,
        "at": [plain(at) for at in row.slack],
    }
