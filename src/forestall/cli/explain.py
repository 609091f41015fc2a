"""``forestall explain``: why a VM holds what it holds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from forestall.model.decision import Decision


def register(app: typer.Typer) -> None:
    """Add the command ``explain``."""
    app.command("explain")(explain)


def explain(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    at: Annotated[
        str | None, typer.Option(help="Instant, seconds UTC or ISO 8601; default: the last decision.")
    ] = None,
    source: Annotated[
        Path, typer.Option("--from", help="Folder that a replay with --decisions, or the demo, wrote.")
    ] = Path("demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print forecast, risk, λ, weight, policy and reason of the decision that was in force.

    Example: forestall explain web-1 --at 2026-01-14T10:00:00Z --from out
    """
    import json
    from dataclasses import asdict

    from forestall.demand.explain import reproduce
    from forestall.model.instants import parse_instant
    from forestall.replay.decision_file import read_decisions

    decisions = read_decisions(source, vm, None if at is None else parse_instant(at, what="--at"))
    if as_json:
        typer.echo(json.dumps([_finite(asdict(d) | {"reproduced": reproduce(d)}) for d in decisions], indent=1))
        return
    for decision in decisions:
        _print(decision)


def _finite(value: object) -> object:
    """The same value as JSON knows it: what is not a finite number is null."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(decision: Decision) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from forestall.demand.explain import reproduce
    from forestall.model.instants import format_instant

    table = Table(
        title=escape(f"{decision.vm_id}: {decision.resource.value}, {decision.resource.unit}"), show_header=False
    )
    table.add_row("in force from", format_instant(decision.in_force_at))
    table.add_row("decided on samples to", format_instant(decision.decided_at))
    table.add_row(
        "allocated", f"{decision.allocated:,.6g} (before: {decision.previous:,.6g}; limit {decision.limit:,.6g})"
    )
    table.add_row("ruling", escape(f"{decision.ruling.value}: {decision.reason}"))
    table.add_row("forecast", "  ".join(f"P{100 * p:g} {v:,.4g}" for p, v in decision.quantiles))
    table.add_row("risk", f"{decision.risk:.3g} to exceed the limit within the longest horizon")
    table.add_row(
        "risk taken", f"{decision.probability:.4g} of falling short now; budget {decision.budget:g} in the long run"
    )
    table.add_row("pool", f"λ {decision.price:.4g}, weight {decision.weight:g}, floor {decision.floor:,.4g}")
    table.add_row(
        "formula",
        f"Q(1 − max({decision.probability:.4g}, λ/w)), at most {decision.wanted:,.6g}, "
        f"at least the floor = {reproduce(decision):,.6g}",
    )
    table.add_row("trust", "  ".join(f"{name} {weight:.2f}" for name, weight in decision.experts.items()))
    table.add_row("policies", escape(", ".join(decision.policies)) or "none")
    Console().print(table)
