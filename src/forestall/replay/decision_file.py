"""``decisions.parquet``: every decision of a replay with what led to it, and how it is read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from forestall.demand.explain import decision_of
from forestall.model.decision import Decision
from forestall.model.errors import BadInput, WrongUse
from forestall.replay.demand_run import ResourceRun

_AMOUNTS = ("allocated", "granted", "previous", "wanted", "limit", "floor", "ceiling")
_NUMBERS = (*_AMOUNTS, "risk", "probability", "price", "weight", "budget")
_ROWS_AT_ONCE = 50_000

SCHEMA = pa.schema(
    [
        ("vm_id", pa.string()),
        ("resource", pa.string()),
        ("decided_at", pa.int64()),
        ("in_force_at", pa.int64()),
        *((name, pa.float64()) for name in _NUMBERS),
        ("levels", pa.list_(pa.float64())),
        ("quantiles", pa.list_(pa.float64())),
        ("experts", pa.map_(pa.string(), pa.float64())),
        ("ruling", pa.string()),
        ("reason", pa.string()),
        ("policies", pa.list_(pa.string())),
    ]
)


def write_decisions(path: Path, runs: Sequence[ResourceRun], budget: int) -> None:
    """Write the decisions of all resources for one budget, in order of time."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        rows: list[dict[str, object]] = []
        for run in runs:
            for decision in _decisions(run, budget):
                rows.append(decision.as_record())
                if len(rows) >= _ROWS_AT_ONCE:
                    writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                    rows.clear()
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


def _decisions(run: ResourceRun, budget: int) -> Iterator[Decision]:
    settings = run.settings.demand
    for cycle, trust, names in run.kept:
        for vm in range(cycle.allocated.shape[1]):
            yield decision_of(
                cycle,
                vm,
                run.trace.vm_ids[vm],
                run.trace.resource,
                settings,
                budget=budget,
                trust={e: float(w) for e, w in zip(run.experts, trust[:, vm], strict=True)},
                policies=names[vm] if names else (),
            )


def read_decisions(folder: Path, vm_id: str, at: int | None) -> list[Decision]:
    """For each resource the decision about a VM that was in force at an instant; the last one if ``at`` is None.

    Raises
    ------
    WrongUse
        The folder holds no decisions, or none about this VM at this time.
    """
    path = folder / "decisions.parquet"
    if not path.is_file():
        raise WrongUse(f"{path} does not exist; replay with --decisions to keep them")
    try:
        table = pq.read_table(path, filters=[("vm_id", "=", vm_id)])
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"cannot be read as decisions: {error}", path=path) from error
    found: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        if at is None or row["in_force_at"] <= at:
            found[row["resource"]] = row
    if not found:
        when = "" if at is None else f" at {at} or before"
        raise WrongUse(f"{path}: no decision about VM {vm_id!r}{when}")
    return [Decision.from_record(row) for row in found.values()]
