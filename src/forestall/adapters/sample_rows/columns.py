"""Columns of a row of samples, and the SQL that follows from them and that every database reads alike."""

from __future__ import annotations

from forestall.model.resources import Resource

ROLLUPS = {"5min": 300, "1h": 3600}
"""Suffix of each table of rolled up samples, and its bucket in seconds."""
MEAN, PEAK, COUNT = "", "_max", "_count"
"""Statistics of a bucket: suffixes of the columns of a roll-up table."""


def limit_column(resource: Resource) -> str:
    """Column of a resource's limit; named as in a demand trace where that has one."""
    return resource.limit_column or f"{resource.value}_limit_bytes_per_s"


def rollup_columns(resource: Resource) -> tuple[str, ...]:
    """Columns of a resource in a table of rolled up samples."""
    demand = resource.demand_column
    return demand + MEAN, demand + PEAK, demand + COUNT, limit_column(resource)


RAW_COLUMNS = tuple(c for r in Resource for c in (r.demand_column, limit_column(r)))
ROLLUP_COLUMNS = tuple(c for r in Resource for c in rollup_columns(r))


def overlay(over: str, under: str) -> str:
    """SQL columns of one sample laid over another: a resource is taken, with its limit, from the upper one.

    ``over`` and ``under`` name row sources that have all :data:`RAW_COLUMNS`.
    """
    cells = []
    for resource in Resource:
        demand, limit = resource.demand_column, limit_column(resource)
        cells.append(f"coalesce({over}.{demand}, {under}.{demand}) AS {demand}")
        cells.append(f"CASE WHEN {over}.{demand} IS NOT NULL THEN {over}.{limit} ELSE {under}.{limit} END AS {limit}")
    return ", ".join(cells)
