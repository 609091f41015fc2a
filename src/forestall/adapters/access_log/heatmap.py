"""When which part of a place was used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forestall.adapters.access_log.reading import Logged, Selection, answered
from forestall.model.samples import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Accesses by time and number.

    Attributes
    ----------
    counts
        Array (time, number).
    instants, numbers
        Edges, one more than there are rows and columns: seconds UTC, and numbers.
    vms, places
        Whose they are, and in how many places.
    """

    counts: IntArray
    instants: FloatArray
    numbers: FloatArray
    vms: int
    places: int


def heatmap(folder: Path, selection: Selection, *, rows: int, columns: int) -> Heatmap | None:
    """Count accesses by the time when, and by the number at which they began; None if there are none.

    The numbers of several places are laid over each other. Bounds of time are those of the selection, if it has them.

    Parameters
    ----------
    folder
        Where the log is.
    selection
        Which accesses count.
    rows, columns
        Of the map; there are fewer columns if there are fewer numbers.

    Raises
    ------
    StoreError
        The log cannot be read.
    """

    def question(logged: Logged) -> Heatmap | None:
        (bounds,) = logged.fetch(
            "SELECT min(instant) AS first_at, max(instant) AS last_at, min(number) AS low, max(number) AS high,"
            " count(DISTINCT vm_id) AS vms, count(DISTINCT (kind, owner, place)) AS places FROM accesses"
        )
        return None if bounds["low"] is None else _counted(logged, selection, bounds, rows, columns)

    return answered(folder, selection, question)


def _counted(logged: Logged, selection: Selection, bounds: dict[str, Any], rows: int, columns: int) -> Heatmap:
    since: float = bounds["first_at"] if selection.since is None else selection.since
    until: float = bounds["last_at"] if selection.until is None else selection.until
    low, span = bounds["low"], bounds["high"] + 1 - bounds["low"]
    columns = min(columns, span)
    step: float = (until - since) / rows or 1.0
    cells = logged.fetch(
        'SELECT least(floor((instant - $since) / $step), $rows - 1)::INTEGER AS "row",'
        ' ((number::HUGEINT - $low::HUGEINT) * $columns // $span::HUGEINT)::INTEGER AS "column", count(*) AS accesses'
        " FROM accesses GROUP BY ALL",
        since=since,
        step=step,
        rows=rows,
        low=low,
        columns=columns,
        span=span,
    )
    counts = np.zeros((rows, columns), np.int64)
    for cell in cells:
        counts[cell["row"], cell["column"]] = cell["accesses"]
    return Heatmap(
        counts=counts,
        instants=since + step * np.arange(rows + 1.0),
        numbers=low + span * np.arange(columns + 1.0) / columns,
        vms=bounds["vms"],
        places=bounds["places"],
    )
