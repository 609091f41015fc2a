"""``forestall guest``: the agent that runs inside VMs, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, ConnectOption, JsonOption, StateOption, configured, print_json

if TYPE_CHECKING:
    from forestall.service.configuration import Configuration

REQUESTS = ("ping", "state", "online", "offline")


def register(app: typer.Typer) -> None:
    """Add the commands ``guest ...``."""
    guest = typer.Typer(help="The agent inside VMs: install it, see how it stands, ask it.", no_args_is_help=True)
    for command in (pack, attach, status, ask, sequences, patterns, profile, record):
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
    from forestall.cli.status import asked

    found = asked(configured(config, state_folder=state_folder).state_folder, "guests")
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.live_tables import guests_table

    Console().print(guests_table(found))


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
    from forestall.cli.live_options import ask_daemon
    from forestall.model.errors import StoreError, WrongUse

    if what not in REQUESTS or (what in ("online", "offline")) != (argument is not None):
        raise WrongUse(f"ask one of {', '.join(REQUESTS)}; online and offline with the number of a CPU")
    folder = configured(config, state_folder=state_folder).state_folder
    request: dict[str, Any] = {"command": "guest", "vm": vm, "do": what, "with": argument}
    # "None" is a fair result, and also what is returned where nobody listens.
    if ask_daemon(folder, command="guests") is None:
        raise StoreError(f"{folder}: no daemon runs there")
    print_json(ask_daemon(folder, **request))


def sequences(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print which operations often follow each other in a VM, what comes after, and where it is now.

    Example: forestall guest sequences web
    """
    found = _asked(configured(config, state_folder=state_folder).state_folder, "sequences", vm)
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.live_tables import sequences_table

    Console().print(sequences_table(found))


def patterns(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a VM does again and again, which of it now, and what usually follows.

    Example: forestall guest patterns web
    """
    found = _asked(configured(config, state_folder=state_folder).state_folder, "patterns", vm)
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.live_tables import patterns_table

    Console().print(patterns_table(found))


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
    from forestall.model.errors import WrongUse

    found = _asked(configured(config, state_folder=state_folder).state_folder, "profile", vm)
    if as_json:
        print_json(found)
        return
    chosen = [name.strip() for name in features.split(",")]
    if unknown := [name for name in chosen if name not in found["mean"]]:
        raise WrongUse(f"{unknown[0]!r} is none of {', '.join(found['mean'])}")
    from rich.console import Console

    from forestall.cli.live_tables import profile_table

    Console().print(profile_table(found, chosen))


def _asked(folder: Path, command: str, vm: str) -> Any:
    """What the daemon answers about a VM."""
    from forestall.cli.live_options import ask_daemon
    from forestall.model.errors import StoreError

    answer = ask_daemon(folder, command=command, vm=vm)
    if answer is None:
        raise StoreError(f"{folder}: no daemon runs there")
    return answer


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
