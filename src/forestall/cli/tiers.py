"""``forestall tiers``: on which storage the disks of VMs lie, and where they would better."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json
from forestall.cli.status import asked

MIB = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the command ``tiers`` with its sub-commands."""
    group = typer.Typer(help="On which storage the disks of VMs lie, and where they would better.")
    group.command("list")(show)
    group.command("move")(move)
    group.command("cancel")(cancel)
    group.command("moves")(moves)
    app.add_typer(group, name="tiers")


def show(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print tiers and disks: how often each will be asked, what a move would save and cost, and why it stays.

    Example: forestall tiers list
    """
    found = asked(configured(config, state_folder=state_folder).state_folder, "tiers")
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.tier_tables import disks_table, tiers_table

    console = Console()
    console.print(tiers_table(found["tiers"]))
    console.print(disks_table(found["disks"]))


def move(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    disk: Annotated[str, typer.Argument(help="Name of the disk inside it, as vda.")],
    tier: Annotated[str, typer.Argument(help="Where to: a name of [tiers] names.")],
    mib_per_s: Annotated[float | None, typer.Option(min=1, max=1e6, help="Not faster; without it, as is set.")] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a disk to another tier while its VM runs, whether that pays or not. It goes on when this returns.

    Example: forestall tiers move db-1 vda nvme
    """
    folder = configured(config, state_folder=state_folder).state_folder
    rate = None if mib_per_s is None else int(mib_per_s * MIB)
    _show([asked(folder, "move-disk", vm=vm, disk=disk, tier=tier, bytes_per_s=rate)], as_json)


def cancel(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Leave the disk that is being moved where it is.

    Example: forestall tiers cancel
    """
    _show([asked(configured(config, state_folder=state_folder).state_folder, "cancel-disk-move")], as_json)


def moves(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the newest moves, and how far they are.

    Example: forestall tiers moves
    """
    _show(asked(configured(config, state_folder=state_folder).state_folder, "disk-moves"), as_json)


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from rich.console import Console

    from forestall.cli.tier_tables import moves_table

    Console().print(moves_table(rows))
