"""``forestall run``: the daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from forestall.cli.live_options import ConfigOption, ConnectOption, StateOption, configured


def register(app: typer.Typer) -> None:
    """Add the command ``run``."""
    app.command("run")(run)


def run(
    connect: ConnectOption = None,
    mode: Annotated[
        str | None, typer.Option(help="observe, advise, canary or enforce; default: as configured, else advise.")
    ] = None,
    config: ConfigOption = None,
    state_folder: StateOption = None,
    cycles: Annotated[int | None, typer.Option(min=1, help="Stop after so many cycles; default: never.")] = None,
) -> None:
    """Watch the VMs of a host, predict what they need, and, as far as the mode goes, give it to them ahead.

    At the end (SIGTERM, SIGINT) every VM is put back as it was. SIGHUP reads the policies anew.

    Example: forestall run --connect qemu:///system --mode advise
    """
    from forestall.bootstrap.daemon import run_daemon
    from forestall.model.errors import WrongUse
    from forestall.model.mode import Mode

    if mode is not None and mode not in set(Mode):
        raise WrongUse(f"--mode {mode}: is none of {', '.join(Mode)}")
    chosen = None if mode is None else Mode(mode)
    settings = configured(config, connect=connect, mode=chosen, state_folder=state_folder)
    if code := run_daemon(settings, cycles=cycles, config=config):
        raise typer.Exit(code)
