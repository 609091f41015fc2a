"""``forestall trust-group``: which VMs may learn from each other, and for which memory is staged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, ask_daemon, configured, print_json
from forestall.cli.status import asked

if TYPE_CHECKING:
    from forestall.service.configuration import Configuration

Group = Annotated[str, typer.Argument(help="Name of the trust group.")]
Vms = Annotated[list[str], typer.Argument(help="Names of VMs.")]


def register(app: typer.Typer) -> None:
    """Add the command ``trust-group`` with its sub-commands."""
    group = typer.Typer(help="Which VMs may learn from each other, and for which of them memory and disks are staged.")
    group.command("list")(show)
    group.command("create")(create)
    group.command("delete")(delete)
    group.command("add")(add)
    group.command("remove")(remove)
    group.command("enable-shadowing")(enable_shadowing)
    group.command("disable-shadowing")(disable_shadowing)
    group.command("set-horizon")(set_horizon)
    group.command("stats")(stats)
    app.add_typer(group, name="trust-group")


def show(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print every trust group: its VMs, and whether memory and disks are staged for them.

    Example: forestall trust-group list
    """
    settings = configured(config, state_folder=state_folder)
    found = ask_daemon(settings.state_folder, command="trust-groups")
    if found is None:
        from forestall.bootstrap.staging_live import change_directly

        found = change_directly(settings, None)
    _print(found, as_json)


def create(
    group: Group, state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Make a trust group without VMs.

    Example: forestall trust-group create tenant-1
    """
    _change(configured(config, state_folder=state_folder), as_json, do="create", group=group)


def delete(
    group: Group, state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Forget a trust group; its VMs are in those that the policy file says, or in none.

    Example: forestall trust-group delete tenant-1
    """
    _change(configured(config, state_folder=state_folder), as_json, do="delete", group=group)


def add(
    group: Group,
    vms: Vms,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put VMs into a trust group; out of the one that they were in.

    Example: forestall trust-group add tenant-1 web-1 web-2
    """
    _change(configured(config, state_folder=state_folder), as_json, do="add", group=group, vms=vms)


def remove(
    group: Group,
    vms: Vms,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take VMs out of a trust group.

    Example: forestall trust-group remove tenant-1 web-2
    """
    _change(configured(config, state_folder=state_folder), as_json, do="remove", group=group, vms=vms)


def enable_shadowing(
    group: Group, state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Stage memory for the VMs of a trust group, and disks where the settings say so: what they will use next.

    Memory must be a shared memfd, disks must go through the host's page cache.

    Example: forestall trust-group enable-shadowing tenant-1
    """
    _change(configured(config, state_folder=state_folder), as_json, do="enable-shadowing", group=group)


def disable_shadowing(
    group: Group, state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Stage nothing any more; memory that is staged and was not touched is given back, disks are not watched.

    Example: forestall trust-group disable-shadowing tenant-1
    """
    _change(configured(config, state_folder=state_folder), as_json, do="disable-shadowing", group=group)


def set_horizon(
    group: Group,
    seconds: Annotated[float, typer.Argument(help="What is staged and not used within so long is given back.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how far ahead memory and disks are staged for a trust group.

    Example: forestall trust-group set-horizon tenant-1 60
    """
    _change(configured(config, state_folder=state_folder), as_json, do="set-horizon", group=group, seconds=seconds)


def stats(
    group: Annotated[str | None, typer.Argument(help="Name of a trust group; none: all.")] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Only what may be given away: groups of enough VMs.")
    ] = False,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what staging memory, and blocks of disks, has brought each trust group, and what it costs.

    A summary leaves out groups of fewer VMs than [applications] summary_vms.

    Example: forestall trust-group stats tenant-1
    """
    settings = configured(config, state_folder=state_folder)
    least = settings.applications.summary_vms if summary else 1
    found = asked(settings.state_folder, "shadowing", least_vms=least, group=group)
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.staging_tables import blocks_lines, blocks_table, shadowing_lines, shadowing_table

    console, blocks = Console(), found.get("blocks")
    console.print(shadowing_table(found))
    for line in shadowing_lines(found):
        console.print(line, markup=False)
    if blocks is not None:
        console.print(blocks_table(blocks))
        for line in blocks_lines(blocks):
            console.print(line, markup=False)


def _change(settings: Configuration, as_json: bool, **request: Any) -> None:
    """Ask the daemon; without one, change what it will read."""
    found = ask_daemon(settings.state_folder, command="trust-group", **request)
    if found is None:
        from forestall.bootstrap.staging_live import change_directly

        found = change_directly(settings, request)
    _print([view for view in found if view["group"] == request["group"]], as_json)


def _print(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.staging_tables import trust_groups_table

    Console().print(trust_groups_table(found))
