"""``forestall controller``: the one place where what VMs are like is kept for many hosts."""

from __future__ import annotations

from typing import Annotated

import typer

from forestall.cli.live_options import ConfigOption, StateOption, configured


def register(app: typer.Typer) -> None:
    """Add the command ``controller``."""
    app.command("controller")(controller)


def controller(
    listen: Annotated[str | None, typer.Option("--listen", help="Address and port, as 0.0.0.0:7443.")] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
) -> None:
    """Take feature vectors of hosts that show a certificate, and keep them; until Ctrl-C or SIGTERM.

    Example: forestall controller --config /etc/forestall/controller.toml
    """
    from dataclasses import replace

    from forestall.bootstrap.controller import run_controller

    configuration = configured(config, state_folder=state_folder)
    if listen is not None:
        configuration = replace(configuration, controller=replace(configuration.controller, listen=listen))
    raise typer.Exit(run_controller(configuration))
