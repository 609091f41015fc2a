"""``forestall policy dry-run``: what a policy would have done with what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.bootstrap.telling import tell
from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json
from forestall.cli.parsing import parse_budgets, parse_capacity, parse_duration
from forestall.model.instants import format_instant, parse_instant
from forestall.model.resources import Resource

if TYPE_CHECKING:
    from forestall.settings import Remote

MOST_SHOWN = 20


def dry_run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy file (TOML); see docs/policy.md.")],
    last: Annotated[str, typer.Option("--last", metavar="TIME", help="So much of the history, as 12h or 7d.")] = "7d",
    trace: Annotated[
        Path | None, typer.Option("--trace", help="A demand trace instead of what was recorded here.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="With --trace: what is before it is learned from.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="A policy to compare with; default: the one in force here, or none."),
    ] = None,
    capacity: Annotated[
        str | None,
        typer.Option("--capacity", help="What the VMs share, as cpu=16,memory=64e9; default: what the daemon says."),
    ] = None,
    violation_budget: Annotated[
        float | None, typer.Option(help="Share of its intervals in which a VM may fall short; default: as configured.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the whole result to this file, too (JSON).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay recorded history under a policy and under the one in force, and print what would have been different.

    Nothing is changed. History is replayed as finely as it is kept, or in means if that would take too long.

    Example: forestall policy dry-run policy.toml --last 7d
    """
    from forestall.bootstrap.dry_run import dry_run_of_trace, history_of
    from forestall.bootstrap.policies import policies_of
    from forestall.model.errors import WrongUse
    from forestall.settings import load_policy, read_policy, remote_api

    settings, wanted = configured(config, state_folder=state_folder), load_policy(file)
    if trace is None and (remote := remote_api()) is not None:
        if against or capacity:
            raise WrongUse("the API compares with what is in force there, on what there is there")
        budget = parse_budgets(str(violation_budget))[0] if violation_budget is not None else None
        seconds = parse_duration(last, what="--last")
        _show(_remotely(remote, read_policy(file), seconds, budget), out, as_json)
        return
    shared = parse_capacity(capacity) if capacity else {}
    begun = None if since is None else parse_instant(since, what="--since")
    policies = policies_of(settings)
    before = load_policy(against) if against else policies.kept() if policies.newest() else policies.look()
    budget = settings.violation_budget
    if trace is None:
        history = history_of(settings, int(parse_duration(last, what="--last")))
        trace, begun, budget = Path(history["path"]), history["since"], history["violation_budget"]
        shared = shared or {Resource(name): amount for name, amount in history["capacity"].items()}
    if violation_budget is not None:
        (budget,) = parse_budgets(str(violation_budget))
    found = dry_run_of_trace(settings, trace, before, wanted, since=begun, budget=budget, capacity=shared, quiet=quiet)
    _show(found, out, as_json)


def _remotely(remote: Remote, text: str, seconds: float, budget: float | None) -> dict[str, Any]:
    """What a dry run there has found, when it is done."""
    from forestall.cli.remote import client_of

    with client_of(remote) as client:
        job = client.dry_run(text, seconds, budget)
        tell(f"it is the job {job.name} of {remote.url}")
        try:
            client.wait(job.name)
        except KeyboardInterrupt:
            client.cancel(job.name)
            raise
        return client.dry_run_result(job.name).model_dump(mode="json")


def _show(found: dict[str, Any], out: Path | None, as_json: bool) -> None:
    if out is not None:
        from forestall.adapters.files.writing import write_json

        write_json(out, found)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from forestall.model.amounts import amount

    shown = Console()
    shown.print(
        f"{found['vms']} VMs from {format_instant(found['since'])} to {format_instant(found['until'])},"
        f" intervals of {found['step_seconds']} s, budget {found['budget']:g}"
    )
    table = Table("resource", "demanded", "limit", "allocated", "would be", "fell short", "would", title="all VMs")
    for row in found["resources"]:
        table.add_row(
            row["resource"],
            *(amount(each, row["resource"]) for each in (row["demanded"], row["limit"])),
            *(amount(row[when]["allocated"], row["resource"]) for when in ("before", "after")),
            *(f"{row[when]['short_share']:.2%}" for when in ("before", "after")),
        )
    shown.print(table)
    rows = found["changed"]
    table = Table("VM", "resource", "demanded", "allocated", "would be", "fell short", "would", title="what changes")
    for row in rows[:MOST_SHOWN]:
        table.add_row(
            escape(row["vm"]),
            row["resource"],
            *(amount(each, row["resource"]) for each in (row["demanded"], row["before"]["allocated"])),
            amount(row["after"]["allocated"], row["resource"]),
            *(f"{row[when]['short_share']:.2%}" for when in ("before", "after")),
        )
    shown.print(table if rows else "nothing would have been different")
    if (more := len(rows) + found["more"] - MOST_SHOWN) > 0:
        shown.print(f"and {more} more (--json)")
    for note in found["notes"]:
        tell(note)
