"""``forestall fabric``: the network between VMs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json
from forestall.cli.status import asked


def register(app: typer.Typer) -> None:
    """Add the command ``fabric`` with its sub-commands."""
    group = typer.Typer(help="The network between VMs: bandwidth, classes and paths, set before the traffic comes.")
    group.command("run")(run)
    group.command("show")(show)
    group.command("plan")(plan)
    group.command("apply")(apply)
    group.command("explain")(explain)
    group.command("withdraw")(withdraw)
    app.add_typer(group, name="fabric")


def run(
    state_folder: StateOption = None,
    config: ConfigOption = None,
    namespace: Annotated[
        Path | None, typer.Option("--namespace", help="Network namespace that the ports of switches are in, a path.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option("--history", help="Traffic trace between VMs, by their names, to learn from first.")
    ] = None,
) -> None:
    """Be the controller of switches, until Ctrl-C or SIGTERM; they go on as they were told.

    Example: forestall fabric run --config /etc/forestall/forestall.toml
    """
    from forestall.bootstrap.fabric import run_fabric

    raise typer.Exit(run_fabric(configured(config, state_folder=state_folder), namespace, history))


def show(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print switches, links and how much they are used, VMs and their classes, and the ways of their traffic.

    Example: forestall fabric show
    """
    found = _asked(config, state_folder, "fabric")
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli import fabric_tables as tables

    console = Console()
    for table in (tables.switches(found), tables.links(found), tables.interfaces(found), tables.pairs(found)):
        console.print(table)
    for where, what in found["faults"].items():
        console.print(f"{where}: {what}", style="red", markup=False)


def plan(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print what switches would be told now; nothing is changed.

    Example: forestall fabric plan
    """
    _show_plan(_asked(config, state_folder, "fabric-plan"), as_json, "would be changed")


def apply(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell switches what the plan says, once, whatever the mode is.

    Example: forestall fabric apply
    """
    _show_plan(_asked(config, state_folder, "fabric-apply"), as_json, "were changed")


def explain(
    link: Annotated[str, typer.Argument(help="Two switches, as leaf1:spine2, in the direction of the traffic.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print who uses a link, how much, and why traffic takes these ways.

    Example: forestall fabric explain leaf1:spine2
    """
    found = _asked(config, state_folder, "fabric-explain", link=link)
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli import fabric_tables as tables

    console = Console()
    console.print(tables.link_line(found["link"]), markup=False)
    console.print(tables.users(found))
    console.print(found["why"], markup=False)


def withdraw(state_folder: StateOption = None, config: ConfigOption = None) -> None:
    """Take back everything that switches were told, and queues of ports; in any mode but enforce.

    Example: forestall fabric withdraw
    """
    found = _asked(config, state_folder, "fabric-withdraw")
    typer.echo(f"{found['removed']} rules and queues were taken back")


def _asked(config: Path | None, state_folder: Path | None, command: str, **more: Any) -> Any:
    from forestall.bootstrap.fabric import fabric_folder

    return asked(fabric_folder(configured(config, state_folder=state_folder)), command, **more)


def _show_plan(found: dict[str, Any], as_json: bool, done: str) -> None:
    if as_json:
        print_json(found)
        return
    for change in found["steps"]:
        typer.echo(f"{change['step']}: {change['switch']}: {change['change']} {change['rule']}")
    for queues in found["queues"]:
        typer.echo(f"queues: {queues['switch']}:{queues['port']}: {queues['queues']}")
    typer.echo(f"{len(found['steps'])} rules and the queues of {len(found['queues'])} ports {done}")
    for where, what in found.get("faults", {}).items():
        typer.echo(f"{where}: {what}", err=True)
