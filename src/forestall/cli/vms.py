"""``forestall vms``: what each VM needs, holds, and is expected to need."""

from __future__ import annotations

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json
from forestall.cli.status import asked

NO_TERMINAL_COLUMNS = 200


def register(app: typer.Typer) -> None:
    """Add the command ``vms``."""
    app.command("vms")(vms)


def vms(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print each VM and resource: demand, what is in force, limit, forecast, risk, mode, the last ruling and why.

    Example: forestall vms --json
    """
    found = asked(configured(config, state_folder=state_folder).state_folder, "vms")
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.live_tables import vms_table

    terminal = Console()
    # A file or a pipe is as wide as it must be.
    (terminal if terminal.is_terminal else Console(width=NO_TERMINAL_COLUMNS)).print(vms_table(found))
