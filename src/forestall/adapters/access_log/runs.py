"""What of a log of accesses was used in a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forestall.adapters.access_log.reading import Logged, Selection, answered
from forestall.ports.access_log import UNIT_BYTES


@dataclass(frozen=True)
class Run:
    """Accesses of a VM that each began where the one before ended: how many, how much, from where and when."""

    vm_id: str
    kind: str
    place: str
    number: int
    accesses: int
    size_bytes: int
    began_at: float
    seconds: float


@dataclass(frozen=True)
class RunShare:
    """Share of accesses that continue a run, of a VM in a place, or of a trust group; and its longest run."""

    accesses: int
    ratio: float
    longest: int
    vms: int
    vm_id: str = ""
    kind: str = ""
    place: str = ""
    trust_group: str = ""
    generation: str = ""


_IN_ORDER = "(PARTITION BY vm_id, kind, place ORDER BY instant, part, position)"
_RUNS = f"""
    CREATE TEMP TABLE runs AS
    WITH ended AS (
        SELECT *, number + (size_bytes + {UNIT_BYTES - 1}) // {UNIT_BYTES} AS next_number FROM accesses
    ), begun AS (
        SELECT *, number IS DISTINCT FROM lag(next_number) OVER {_IN_ORDER} AS begins FROM ended
    ), numbered AS (
        SELECT *, sum(begins::INTEGER) OVER {_IN_ORDER} AS run FROM begun
    )
    SELECT vm_id, kind, place, first(trust_group) AS trust_group, first(generation) AS generation,
           min(number) AS number, count(*) AS accesses, sum(size_bytes)::BIGINT AS size_bytes,
           min(instant) AS began_at, max(instant) - min(instant) AS seconds
    FROM numbered GROUP BY vm_id, kind, place, run
"""
_LONGEST = """
    SELECT vm_id, kind, place, number, accesses, size_bytes, began_at, seconds FROM runs WHERE accesses > 1
    ORDER BY accesses DESC, size_bytes DESC, began_at, vm_id, kind, place LIMIT $most
"""


def runs(folder: Path, selection: Selection, *, most: int) -> tuple[list[Run], list[RunShare]]:
    """The longest sequential runs, longest first, and how sequential each place of a VM is used, most used first.

    An access continues a run if it begins where the one before it of this VM ended, in this place.

    Parameters
    ----------
    folder
        Where the log is.
    selection
        Which accesses count.
    most
        At most so many runs, and so many places.

    Raises
    ------
    StoreError
        The log cannot be read.
    """

    def question(logged: Logged) -> tuple[list[Run], list[RunShare]]:
        logged.fetch(_RUNS)
        longest = [Run(**row) for row in logged.fetch(_LONGEST, most=most)]
        return longest, _shares(logged, "vm_id, kind, place", most=most, least_vms=1)

    return answered(folder, selection, question)


def runs_of_groups(folder: Path, selection: Selection, *, most: int, least_vms: int) -> list[RunShare]:
    """How sequential the accesses of each trust group are, if it is of at least so many VMs; see :func:`runs`."""

    def question(logged: Logged) -> list[RunShare]:
        logged.fetch(_RUNS)
        return _shares(logged, "trust_group, generation", most=most, least_vms=least_vms)

    return answered(folder, selection, question)


def _shares(logged: Logged, keys: str, **bounds: int) -> list[RunShare]:
    sql = f"""
        SELECT {keys}, sum(accesses)::BIGINT AS accesses, 1 - count(*) / sum(accesses) AS ratio,
               max(accesses) AS longest, count(DISTINCT vm_id) AS vms
        FROM runs GROUP BY {keys} HAVING count(DISTINCT vm_id) >= $least_vms
        ORDER BY sum(accesses) DESC, {keys} LIMIT $most
    """
    return [RunShare(**row) for row in logged.fetch(sql, **bounds)]
