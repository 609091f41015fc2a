"""Options that the commands of a running system share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from forestall.service.configuration import Configuration

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings (TOML); default: /etc/forestall/forestall.toml if it is there."),
]
StateOption = Annotated[Path | None, typer.Option("--state-folder", help="Where the daemon keeps its state.")]
ConnectOption = Annotated[
    str | None, typer.Option("--connect", help="URI of libvirt, or simulated:TRACE.parquet[?clock=virtual].")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def configured(config: Path | None, **given: Any) -> Configuration:
    """The operator's settings, with the options that were given instead of what the file says."""
    from dataclasses import replace

    from forestall.settings import load_configuration

    return replace(load_configuration(config), **{key: value for key, value in given.items() if value is not None})


def ask_daemon(folder: Path, **request: Any) -> Any:
    """Ask the daemon of a state folder; None if none runs. The folder need not exist.

    Where the environment names an API, that is asked instead.
    """
    from forestall.service.control import ask
    from forestall.settings import remote_api

    if (remote := remote_api()) is not None:
        from forestall.cli.remote import ask_remote

        return ask_remote(remote, request)
    return ask(folder, request)


def print_json(value: Any) -> None:
    """Print plain values."""
    import json

    typer.echo(json.dumps(value, indent=1))
