"""``forestall status``: what the daemon does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.cli.live_options import (
    ConfigOption,
    JsonOption,
    StateOption,
    ask_daemon,
    configured,
    print_json,
)

if TYPE_CHECKING:
    from pathlib import Path

LOOK_AGAIN_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the command ``status``."""
    app.command("status")(status)


def status(
    state_folder: StateOption = None,
    config: ConfigOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every second, with the VMs, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print mode, faults, pools and the last cycle of the daemon; exit code 1 if none runs.

    Example: forestall status --watch
    """
    from forestall.model.errors import WrongUse

    if watch and as_json:
        raise WrongUse("--watch and --json exclude each other")
    folder = configured(config, state_folder=state_folder).state_folder
    if watch:
        _watch(folder)
        return
    found = asked(folder, "status")
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.live_tables import status_table

    Console().print(status_table(found))


def asked(folder: Path, command: str, **more: Any) -> Any:
    """What the daemon answers; a :class:`StoreError` if none runs."""
    from forestall.model.errors import StoreError

    answer = ask_daemon(folder, command=command, **more)
    if answer is None:
        raise StoreError(f"{folder}: no daemon runs there")
    return answer


def _watch(folder: Path) -> None:
    from rich.console import Group
    from rich.live import Live

    from forestall.cli.live_tables import status_table, vms_table

    def page() -> Group:
        return Group(status_table(asked(folder, "status")), vms_table(asked(folder, "vms")))

    with Live(page(), auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(LOOK_AGAIN_SECONDS)
            live.update(page(), refresh=True)
