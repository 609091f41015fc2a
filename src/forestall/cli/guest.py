"""``forestall guest``: the agent that runs inside VMs, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.cli.live_options import (
    ConfigOption,
    ConnectOption,
    JsonOption,
    StateOption,
    ask_daemon,
    configured,
    print_json,
)
from forestall.cli.status import asked

if TYPE_CHECKING:
    from rich.table import Table

    from forestall.service.configuration import Configuration

REQUESTS = ("ping", "state", "online", "offline")


def register(app: typer.Typer) -> None:
    """Add the commands ``guest ...``."""
    guest = typer.Typer(help="The agent inside VMs: install it, see how it stands, ask it.", no_args_is_help=True)
    for command in (pack, attach, status, ask, busiest, sequences, patterns, profile, record):
        guest.command(command.__name__)(command)
    app.add_typer(guest, name="guest")


def pack(file: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Write the agent as one file, for Python 3.9 or newer, to be copied into VMs.

    Example: forestall guest pack forestall-guest
    """
    from forestall.guest.bundle import write_bundle
    from forestall.model.errors import BadInput

    try:
        write_bundle(file)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", path=file) from error
    typer.echo(f"{file}: copy it to /usr/local/bin/forestall-guest in a VM, with forestall-guest.service beside it")


def attach(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    connect: ConnectOption = None,
    config: ConfigOption = None,
) -> None:
    """Give a running VM the virtio-serial port that the agent speaks through, now and for its next starts.

    Example: forestall guest attach web
    """
    from forestall.bootstrap.guests import add_guest_port

    added = add_guest_port(configured(config, connect=connect), vm)
    typer.echo(f"{vm} {'has a port for the agent now' if added else 'has a port for the agent already'}")


def status(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print how it stands with the agent of each VM: windows a second, round trip, cost, what was dropped.

    Example: forestall guest status
    """
    from forestall.cli.live_tables import guests_table

    _show(asked(configured(config, state_folder=state_folder).state_folder, "guests"), guests_table, as_json)


def ask(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    what: Annotated[str, typer.Argument(help=f"One of {', '.join(REQUESTS)}.")],
    argument: Annotated[int | None, typer.Argument(help="Number of a CPU, for online and offline.")] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
) -> None:
    """Ask the agent of a VM, through the daemon that runs here.

    Example: forestall guest ask web state
    """
    from forestall.model.errors import WrongUse

    if what not in REQUESTS or (what in ("online", "offline")) != (argument is not None):
        raise WrongUse(f"ask one of {', '.join(REQUESTS)}; online and offline with the number of a CPU")
    folder = configured(config, state_folder=state_folder).state_folder
    asked(folder, "guests")  # whether a daemon runs: the answer to a ping may be nothing
    print_json(ask_daemon(folder, command="guest", vm=vm, do=what, **{"with": argument}))


def busiest(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the busiest processes and control groups of a VM, as its agent said last.

    Example: forestall guest busiest web
    """
    from forestall.cli.live_tables import busiest_table

    folder = configured(config, state_folder=state_folder).state_folder
    _show(asked(folder, "busiest", vm=vm), busiest_table, as_json)


def sequences(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print which operations often follow each other in a VM, what comes after, and where it is now.

    Example: forestall guest sequences web
    """
    from forestall.cli.live_tables import sequences_table

    folder = configured(config, state_folder=state_folder).state_folder
    _show(asked(folder, "sequences", vm=vm), sequences_table, as_json)


def patterns(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a VM does again and again, which of it now, and what usually follows.

    Example: forestall guest patterns web
    """
    from forestall.cli.live_tables import patterns_table

    folder = configured(config, state_folder=state_folder).state_folder
    _show(asked(folder, "patterns", vm=vm), patterns_table, as_json)


def profile(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    features: Annotated[str, typer.Option("--features", help="Which, with commas between.")] = "cpu_user_cores",
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print how a VM is at each hour of the week, as far as that has been seen.

    Example: forestall guest profile web --features cpu_user_cores,net_tx_bytes_per_s
    """
    from forestall.cli.live_tables import profile_table
    from forestall.model.errors import WrongUse

    found = asked(configured(config, state_folder=state_folder).state_folder, "profile", vm=vm)
    chosen = [name.strip() for name in features.split(",")]
    if unknown := [name for name in chosen if name not in found["mean"]]:
        raise WrongUse(f"{unknown[0]!r} is none of {', '.join(found['mean'])}")
    _show(found, lambda profile: profile_table(profile, chosen), as_json)


def _show(found: Any, table: Callable[[Any], Table], as_json: bool) -> None:
    """Print what the daemon has answered, as it is or as a table."""
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    Console().print(table(found))


def record(
    file: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, help="How long to listen.")] = 600.0,
    connect: ConnectOption = None,
    config: ConfigOption = None,
) -> None:
    """Write every window that the agents of all VMs send, while no daemon listens to them.

    Example: forestall guest record windows.parquet --seconds 60
    """
    from forestall.bootstrap.guests import record_guests

    configuration: Configuration = configured(config, connect=connect)
    windows, vms = record_guests(configuration, file, seconds)
    typer.echo(f"{file}: {windows} windows of {vms} VMs")
