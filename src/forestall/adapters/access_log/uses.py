"""What of a log of accesses was used most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forestall.adapters.access_log.reading import Logged, Selection, answered

KEYS = {
    "item": ("kind", "owner", "place", "number"),
    "place": ("kind", "owner", "place"),
    "vm": ("vm_id",),
    "program": ("vm_id", "program_id"),
    "group": ("trust_group", "generation"),
}
"""What accesses can be counted by, and the columns that tell one from another."""
SHOWN = ("item", "place", "vm", "program")
"""Those that name what is used; a trust group is for who may not be told that."""


@dataclass(frozen=True)
class Use:
    """How much something was used.

    Attributes
    ----------
    accesses, size_bytes
        How often, and how much in all.
    write_ratio
        Share of the accesses that wrote.
    first_at, last_at
        The first and the last time, seconds UTC.
    median_gap_seconds
        From one access to the next; None if there was one only.
    items
        How many different pages, blocks or connections.
    vms, vm_id
        How many VMs used it, and which, if it was one.
    kind, place, number, program_id, trust_group, generation
        What it is, as far as it was counted by that.
    """

    accesses: int
    size_bytes: int
    write_ratio: float
    first_at: float
    last_at: float
    median_gap_seconds: float | None
    items: int
    vms: int
    vm_id: str
    kind: str = ""
    place: str = ""
    number: int | None = None
    program_id: str = ""
    trust_group: str = ""
    generation: str = ""


def top(folder: Path, selection: Selection, *, by: str, most: int, least_vms: int = 1) -> list[Use]:
    """What was used most often, most first.

    Parameters
    ----------
    folder
        Where the log is.
    selection
        Which accesses count.
    by
        One of :data:`KEYS`.
    most
        At most so many.
    least_vms
        What fewer VMs used is left out.

    Raises
    ------
    StoreError
        The log cannot be read.
    """
    keys = ", ".join(KEYS[by])
    shown = "".join(f", {key}" for key in KEYS[by] if key not in ("owner", "vm_id"))
    sql = f"""
        WITH leaders AS (
            SELECT {keys}, count(*) AS accesses FROM accesses GROUP BY {keys}
            HAVING $least_vms = 1 OR count(DISTINCT vm_id) >= $least_vms
            ORDER BY accesses DESC, {keys} LIMIT $most
        ), followed AS (
            SELECT *, instant - lag(instant) OVER (PARTITION BY {keys} ORDER BY instant) AS gap
            FROM accesses SEMI JOIN leaders USING ({keys})
        )
        SELECT count(*) AS accesses, sum(size_bytes)::BIGINT AS size_bytes, avg(is_write::INTEGER) AS write_ratio,
               min(instant) AS first_at, max(instant) AS last_at, median(gap) AS median_gap_seconds,
               count(DISTINCT (kind, owner, place, number)) AS items, count(DISTINCT vm_id) AS vms,
               if(count(DISTINCT vm_id) = 1, min(vm_id), '') AS vm_id {shown}
        FROM followed GROUP BY {keys} ORDER BY accesses DESC, {keys}
    """

    def question(logged: Logged) -> list[Use]:
        return [Use(**row) for row in logged.fetch(sql, least_vms=least_vms, most=most)]

    return answered(folder, selection, question)
