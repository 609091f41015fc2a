"""``forestall policy``: check what an operator wrote, and show what it means for a VM."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.bootstrap.telling import tell
from forestall.cli import policy_dry_run, policy_versions
from forestall.model.errors import WrongUse
from forestall.model.instants import parse_instant

if TYPE_CHECKING:
    from forestall.demand.policy import PolicyTable, Rule

_PolicyFile = Annotated[Path, typer.Argument(metavar="FILE", help="A policy file (TOML); see docs/policy.md.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_ANY_VM = "(a VM that no rule names)"
_LATEST = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())


def register(app: typer.Typer) -> None:
    """Add ``policy`` and its commands to the command line."""
    group = typer.Typer(
        help="Check a policy file, show what it says about a VM, and put it in force.", no_args_is_help=True
    )
    group.command("check")(check_command)
    group.command("show")(show_command)
    group.command("dry-run")(policy_dry_run.dry_run)
    policy_versions.register(group)
    app.add_typer(group, name="policy")


def check_command(file: _PolicyFile, json: _Json = False) -> None:
    """Check a policy file, and print its rules in order of precedence, highest first.

    Example: forestall policy check policy.toml
    """
    from forestall.demand.policy_review import described, doubts
    from forestall.settings import load_policy

    policy = load_policy(file)
    warnings = doubts(policy)
    for line in warnings:
        tell(f"{file}: {line}", "warning")
    rules = policy.in_order()
    if json:
        _print_json({"file": str(file), **described(policy), "warnings": warnings})
        return
    typer.echo(f"{file}: rules: {len(rules)}, warnings: {len(warnings)}")
    header = ["", "priority", "rule", "matches", "calendar", "resources", "sets"]
    _print_columns([header, *([str(i), *_cells(rule)] for i, rule in enumerate(rules, start=1))])


def show_command(
    file: _PolicyFile,
    vm: Annotated[str | None, typer.Option("--vm", help="The VM; without it one that no rule names.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Seconds UTC or ISO 8601 (without offset: UTC); now.")
    ] = None,
    json: _Json = False,
) -> None:
    """Show what a policy says about a VM at a time, and which rule says it.

    Ratios are shown as they stand in the file, for they depend on the limit that the VM has then.

    Example: forestall policy show policy.toml --vm db-1 --at 2026-12-24T20:00:00+01:00
    """
    import numpy as np

    from forestall.model.resources import Resource
    from forestall.settings import load_policy

    policy, instant, resources = load_policy(file), _instant(at), tuple(Resource)
    limit = np.array([[1.0 if resource.limit_column else np.inf for resource in resources]])
    table = policy.resolve((_ANY_VM if vm is None else vm,), resources, limit, instant)
    rows, group = _rows(table), "" if vm is None else policy.trust((vm,))[0]
    shown_at = datetime.fromtimestamp(instant, UTC).isoformat()
    if json:
        _print_json(
            {"file": str(file), "vm": vm, "at": shown_at, "trust_group": group, "rules": table.names[0], "values": rows}
        )
        return
    typer.echo(f"{_ANY_VM if vm is None else vm} at {shown_at}")
    if policy.trust_groups:
        typer.echo(f"trust group: {group or 'none'}")
    typer.echo(f"rules that hold: {', '.join(map(repr, table.names[0])) or 'none'}")
    lines = [[str(row[name]) for name in ("resource", "attribute", "stated", "source")] for row in rows]
    _print_columns([["resource", "attribute", "value", "given by"], *lines])


def _cells(rule: Rule) -> list[str]:
    """Describe a rule for the table: priority, name, matches, calendar, resources, sets."""
    matches = "; ".join(f"{kind} {', '.join(entries)}" for kind, entries in rule.matchers().items())
    resources = "all" if len(rule.resources) == len(type(rule.resources[0])) else ", ".join(rule.resources)
    sets = ", ".join(f"{key} {value:.12g}" for key, value in rule.terms.stated().items())
    calendar = "always" if rule.calendar is None else str(rule.calendar)
    return [str(rule.priority), rule.name, matches or "every VM", calendar, resources, sets]


def _rows(table: PolicyTable) -> list[dict[str, Any]]:
    """List every value of the only VM of ``table``."""
    from forestall.demand.policy import ATTRIBUTES

    rows = []
    for column, resource in enumerate(table.resources):
        for attribute in ATTRIBUTES:
            given = table.statement(attribute, 0, column)
            finite = given.value < float("inf")
            rows.append(
                {
                    "resource": resource.value,
                    "attribute": attribute,
                    "key": given.key,
                    "value": given.value if finite else None,
                    "stated": f"{given.key} {given.value:.12g}" if finite else "none",
                    "source": f"rule {given.source!r}" if given.is_rule else given.source,
                }
            )
    return rows


def _instant(text: str | None) -> int:
    """Seconds UTC of what was given to ``--at``."""
    if text is None:
        from forestall.adapters.clock.system import SystemClock

        return int(SystemClock().now())
    instant = parse_instant(text, what="--at")
    if not 0 <= instant < _LATEST:
        raise WrongUse(f"--at {text!r} does not lie between the years 1970 and 9998")
    return instant


def _print_json(value: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _print_columns(lines: list[list[str]]) -> None:
    """Print lines of cells below each other; the first line is the header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
