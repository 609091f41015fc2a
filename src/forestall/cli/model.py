"""``forestall model``: the recurrent models, which of them are in use, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json
from forestall.cli.parsing import parse_resources

_Models = Annotated[
    Path | None, typer.Option("--models", help="Folder of the models; default: the one in the daemon's state folder.")
]


def register(app: typer.Typer) -> None:
    """Add the command group ``model``."""
    group = typer.Typer(help="Train forecasting models, list them, go back to an older one.", no_args_is_help=True)
    group.command("train")(train)
    group.command("list")(list_command)
    group.command("rollback")(rollback)
    app.add_typer(group, name="model")


def train(
    trace: Annotated[Path, typer.Argument(help="Demand trace to learn from: Parquet, CSV, or a folder of them.")],
    models: _Models = None,
    resources: Annotated[str | None, typer.Option(help="cpu, memory, ...; default: all that the trace has.")] = None,
    policies: Annotated[
        Path | None, typer.Option(help="TOML file of policies: which applications the VMs run.")
    ] = None,
    trust_groups: Annotated[
        Path | None,
        typer.Option(help="State folder whose trust groups count, and whose policies, without --policies."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is random.")] = 0,
    background: Annotated[
        bool, typer.Option("--background", help="Lowest priority, and the first to go when memory is short.")
    ] = False,
    cpu_seconds: Annotated[int, typer.Option(min=0, help="End after so much CPU time; 0: no limit.")] = 0,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train on a trace, from the models in use. What is better on the newest day of the trace takes over.

    Example: forestall model train mine.parquet --models models
    """
    import sys

    from forestall.adapters.linux.own_process import limit_cpu_seconds, stand_back
    from forestall.bootstrap.models import train_models

    if background:
        stand_back()
    if cpu_seconds:
        limit_cpu_seconds(cpu_seconds)

    def note(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    verdicts = train_models(
        trace, _folder(models, config, state_folder), parse_resources(resources), seed, note, policies, trust_groups
    )
    if as_json:
        print_json(
            {r.value: {"accepted": v.accepted, "reason": v.reason, "scores": v.scores} for r, v in verdicts.items()}
        )


def list_command(
    models: _Models = None, state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print every resource's models, the one in use last, and the trainings that were refused.

    Example: forestall model list --models models
    """
    from forestall.bootstrap.models import describe_models

    found = describe_models(_folder(models, config, state_folder))
    if as_json:
        print_json(found)
        return
    _print(found)


def rollback(
    resource: Annotated[str, typer.Argument(help="cpu, memory, disk_read, disk_write, net_rx or net_tx.")],
    models: _Models = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
) -> None:
    """Go back to the model before the one in use; to the one that comes with Forestall if it was the first.

    Example: forestall model rollback cpu --models models
    """
    from forestall.bootstrap.models import roll_back_model
    from forestall.model.errors import WrongUse

    chosen = parse_resources(resource)
    if len(chosen) != 1:
        raise WrongUse(f"{resource}: one resource at a time")
    typer.echo(roll_back_model(_folder(models, config, state_folder), chosen[0]))


def _folder(models: Path | None, config: Path | None, state_folder: Path | None) -> Path:
    from forestall.bootstrap.models import MODELS

    return models or configured(config, state_folder=state_folder).state_folder / MODELS


def _print(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from forestall.model.instants import format_instant

    table = Table("resource", "version", "since", "", "why", "trained on")
    for row in found:
        since = "" if row["at"] is None else format_instant(row["at"])
        why, on = escape(row["reason"]), escape(row["trained_on"])
        table.add_row(row["resource"], row["version"], since, row["state"], why, on)
    Console().print(table)
