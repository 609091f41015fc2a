"""``forestall explain``: why a VM holds what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.cli.live_options import (
    ConfigOption,
    JsonOption,
    StateOption,
    ask_daemon,
    configured,
    print_json,
)

if TYPE_CHECKING:
    from forestall.service.configuration import Configuration


def register(app: typer.Typer) -> None:
    """Add the command ``explain``."""
    app.command("explain")(explain)


def explain(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    at: Annotated[
        str | None, typer.Option(help="Instant, seconds UTC or ISO 8601; default: the last decision.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Folder that a replay with --decisions, or the demo, wrote; default: the daemon."),
    ] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print forecast, risk, λ, weight, policy and reason of the decision that was in force.

    The daemon is asked; if none runs, its journal. ``--from`` asks a replay instead.

    Example: forestall explain web-1 --at 2026-01-14T10:00:00Z
    """
    from forestall.model.errors import WrongUse
    from forestall.model.instants import parse_instant

    instant = None if at is None else parse_instant(at, what="--at")
    if source is not None:
        if state_folder is not None or config is not None:
            raise WrongUse("--from asks a replay; --state-folder and --config mean a daemon")
        found = _of_replay(source, vm, instant)
    else:
        found = _of_daemon(configured(config, state_folder=state_folder), vm, instant)
    if as_json:
        print_json(found)
        return
    for decision in found:
        _print(decision)


def _of_replay(source: Path, vm: str, at: int | None) -> list[dict[str, Any]]:
    from forestall.replay.decision_file import read_decisions
    from forestall.service.answering import explained

    return [explained(decision) for decision in read_decisions(source, vm, at)]


def _of_daemon(settings: Configuration, vm: str, at: int | None) -> list[dict[str, Any]]:
    from forestall.model.errors import WrongUse

    found: list[dict[str, Any]] | None = ask_daemon(settings.state_folder, command="explain", vm=vm, at=at)
    if found is None:
        from forestall.bootstrap.live import read_journal

        found = read_journal(settings, vm, at)
    if not found:
        when = "" if at is None else f" at {at}"
        raise WrongUse(f"{settings.state_folder}: the journal has no decision about a VM named {vm!r}{when}")
    return found


def _print(decision: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from forestall.model.instants import format_instant
    from forestall.model.resources import Resource

    unit = Resource(decision["resource"]).unit
    table = Table(title=escape(f"{decision['vm_id']}: {decision['resource']}, {unit}"), show_header=False)
    table.add_row("in force from", format_instant(decision["in_force_at"]))
    table.add_row("decided on samples to", format_instant(decision["decided_at"]))
    amounts = {
        name: _number(decision[name], ",.6g") for name in ("allocated", "previous", "limit", "wanted", "reproduced")
    }
    table.add_row("allocated", f"{amounts['allocated']} (before: {amounts['previous']}; limit {amounts['limit']})")
    table.add_row("ruling", escape(f"{decision['ruling']}: {decision['reason']}"))
    if decision["granted"] is not None:
        table.add_row("done", escape(_done(decision)))
    table.add_row("forecast", "  ".join(f"P{100 * p:g} {_number(v, ',.4g')}" for p, v in decision["quantiles"]))
    table.add_row("risk", f"{_number(decision['risk'], '.3g')} to exceed the limit within the longest horizon")
    short = _number(decision["probability"], ".4g")
    table.add_row("risk taken", f"{short} of falling short now; budget {decision['budget']:g} in the long run")
    table.add_row(
        "pool", f"λ {decision['price']:.4g}, weight {decision['weight']:g}, floor {_number(decision['floor'], ',.4g')}"
    )
    table.add_row(
        "formula",
        f"Q(1 − max({short}, λ/w)), at most {amounts['wanted']}, at least the floor = {amounts['reproduced']}",
    )
    table.add_row("trust", "  ".join(f"{name} {weight:.2f}" for name, weight in decision["experts"].items()))
    table.add_row("policies", escape(", ".join(decision["policies"])) or "none")
    Console().print(table)


def _done(decision: dict[str, Any]) -> str:
    """What came of the last action, and whether it was undone since."""
    from forestall.model.instants import format_instant

    outcome, restored = decision["outcome"], decision["restored"]
    parts = [f"granted {_number(decision['granted'], ',.6g')}"]
    if outcome is None:
        parts.append("nothing was set yet")
    else:
        why = f" ({outcome['reason']})" if outcome["reason"] else ""
        amounts = f"{_number(outcome['amount'], ',.6g')}, in force {_number(outcome['read_back'], ',.6g')}"
        when = "" if outcome["at"] is None else f", {format_instant(outcome['at'])}"
        parts.append(f"last set to {amounts}: {outcome['result']}{why}{when}")
    if restored is not None:
        parts.append(f"put back as it was {format_instant(restored['at'])}: {restored['why']}")
    return "; ".join(parts)


def _number(value: float | None, form: str) -> str:
    """A number as text; JSON has no number for what has no end or is not known."""
    return "–" if value is None else format(value, form)
