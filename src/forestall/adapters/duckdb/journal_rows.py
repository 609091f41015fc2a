"""Rows of the journal's tables: their columns, and from what is recorded to rows and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from forestall.model.decision import Action, Decision, Outcome, Restoration, Result
from forestall.model.resources import Resource

DECISION = pa.schema(
    [
        ("cycle", pa.int64()),
        ("vm_id", pa.string()),
        ("resource", pa.string()),
        ("decided_at", pa.int64()),
        ("in_force_at", pa.int64()),
        *((name, pa.float64()) for name in ("allocated", "previous", "limit")),
        ("levels", pa.list_(pa.float64())),
        ("quantiles", pa.list_(pa.float64())),
        *(
            (name, pa.float64())
            for name in ("risk", "probability", "wanted", "price", "weight", "floor", "ceiling", "budget")
        ),
        ("ruling", pa.string()),
        ("reason", pa.string()),
        ("policies", pa.list_(pa.string())),
        ("experts", pa.map_(pa.string(), pa.float64())),
        ("granted", pa.float64()),
    ]
)
OUTCOME = pa.schema(
    [
        ("cycle", pa.int64()),
        ("vm_id", pa.string()),
        ("resource", pa.string()),
        ("amount", pa.float64()),
        ("result", pa.string()),
        ("read_back", pa.float64()),
        ("reason", pa.string()),
        ("at", pa.int64()),
    ]
)
RESTORATION = pa.schema([("cycle", pa.int64()), ("vm_id", pa.string()), ("at", pa.int64()), ("why", pa.string())])


def decision_rows(cycle: int, decisions: Sequence[Decision]) -> pa.Table:
    """Rows of the table ``decision``; the way back is :meth:`Decision.from_record`."""
    return pa.Table.from_pylist([d.as_record() | {"cycle": cycle} for d in decisions], DECISION)


def outcome_rows(cycle: int, outcomes: Sequence[Outcome]) -> pa.Table:
    """Rows of the table ``outcome``."""
    return pa.Table.from_pylist([_outcome_row(cycle, o) for o in outcomes], OUTCOME)


def outcome_of(row: dict[str, Any]) -> Outcome:
    """The outcome of a row."""
    action = Action(row["vm_id"], Resource(row["resource"]), row["amount"])
    return Outcome(action, Result(row["result"]), row["read_back"], row["reason"], row["at"])


def restoration_rows(cycle: int, restorations: Sequence[Restoration]) -> pa.Table:
    """Rows of the table ``restoration``."""
    return pa.Table.from_pylist([asdict(r) | {"cycle": cycle} for r in restorations], RESTORATION)


def restoration_of(row: dict[str, Any]) -> Restoration:
    """The restoration of a row."""
    return Restoration(row["vm_id"], row["at"], row["why"])


def _outcome_row(cycle: int, outcome: Outcome) -> dict[str, Any]:
    return {
        "cycle": cycle,
        "vm_id": outcome.action.vm_id,
        "resource": outcome.action.resource.value,
        "amount": outcome.action.amount,
        "result": outcome.result.value,
        "read_back": outcome.read_back,
        "reason": outcome.reason,
        "at": outcome.at,
    }
