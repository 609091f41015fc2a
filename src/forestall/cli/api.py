"""``forestall api``: the API over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from forestall.cli.live_options import ConfigOption, StateOption, configured


def register(app: typer.Typer) -> None:
    """Add the command ``api``."""
    app.command("api")(api)


def api(
    listen: Annotated[str | None, typer.Option("--listen", help="Address and port, as 127.0.0.1:7480.")] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    while_held: Annotated[
        bool, typer.Option("--while-held", help="End when standard input does, as the daemon wants it.")
    ] = False,
) -> None:
    """Serve the API of the daemon of a state folder, until Ctrl-C or SIGTERM. The daemon starts it where [api] says so.

    Example: forestall api --listen 127.0.0.1:7480
    """
    import os
    from dataclasses import replace

    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads of numpy would keep the rights that the process gives up

    from forestall.bootstrap.api import run_api

    configuration = configured(config, state_folder=state_folder)
    if listen is not None:
        configuration = replace(configuration, api=replace(configuration.api, listen=listen))
    raise typer.Exit(run_api(configuration, config=config, while_held=while_held))
