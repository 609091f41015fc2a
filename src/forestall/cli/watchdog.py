"""``forestall watchdog``: puts VMs back when the daemon is gone or hangs."""

from __future__ import annotations

from typing import Annotated

import typer

from forestall.cli.live_options import ConfigOption, ConnectOption, StateOption, configured


def register(app: typer.Typer) -> None:
    """Add the command ``watchdog``."""
    app.command("watchdog")(watchdog)


def watchdog(
    connect: ConnectOption = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Look once; exit code 1 if VMs are not as they were.")] = False,
) -> None:
    """Watch a daemon from a process of its own: when it has died or hangs, every VM is put back as it was.

    Example: forestall watchdog --state-folder /var/lib/forestall --connect qemu:///system
    """
    from forestall.bootstrap.live import watch

    if code := watch(configured(config, connect=connect, state_folder=state_folder), once=once):
        raise typer.Exit(code)
