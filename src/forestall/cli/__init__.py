"""The command ``forestall``: one file for each sub-command, one line for each error.

A module of a sub-command has ``register(app)``, which adds its commands. It imports what is heavy inside its
commands, so that ``forestall --help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from forestall import __version__
from forestall.bootstrap.telling import tell, tell_what_is_logged
from forestall.cli import (
    access,
    api,
    applications,
    audit,
    backup,
    burst,
    config,
    controller,
    demo,
    doctor,
    explain,
    fabric,
    guest,
    lab,
    model,
    pki,
    policy,
    preallocate,
    record,
    replay,
    restore,
    run,
    staging,
    status,
    tiers,
    token,
    trace,
    trust_group,
    vms,
    watchdog,
)
from forestall.model.errors import ForestallError

SUB_COMMANDS = (
    run,
    status,
    vms,
    explain,
    applications,
    trust_group,
    access,
    preallocate,
    tiers,
    fabric,
    api,
    token,
    audit,
    backup,
    restore,
    watchdog,
    burst,
    staging,
    doctor,
    replay,
    demo,
    model,
    record,
    policy,
    config,
    trace,
    lab,
    guest,
    controller,
    pki,
)
"""Modules of the sub-commands, in the order of ``--help``. A new one is added here."""

INTERRUPTED, BROKEN_PIPE = 130, 141
_Refused: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises on wrong use, its ``ClickException``; typer does not export it."""


def make_app() -> typer.Typer:
    """Build the command with all its sub-commands."""
    app = typer.Typer(
        name="forestall",
        help="Gives each virtual machine what it is about to need, before it asks.",
        epilog="Example: forestall trace check trace.parquet",
        pretty_exceptions_enable=False,
        invoke_without_command=True,
        add_completion=False,
    )
    app.callback()(_root)
    for module in SUB_COMMANDS:
        module.register(app)
    return app


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Gives each virtual machine what it is about to need, before it asks."""
    if version:
        typer.echo(f"forestall {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments
        What stands behind ``forestall``; None takes the arguments of the process.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong use or bad input, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, _terminated)
    tell_what_is_logged()
    try:
        code = make_app()(args=None if arguments is None else list(arguments), standalone_mode=False)
        sys.stdout.flush()
    except ForestallError as error:
        return _fail(str(error), error.exit_code)
    except _Refused as error:
        return _fail(getattr(error, "format_message", error.__str__)(), getattr(error, "exit_code", 2))
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code if isinstance(code, int) else 0


def _terminated(number: int, frame: object) -> None:
    """Leave as on Ctrl-C, so that nothing half-written stays behind."""
    raise KeyboardInterrupt


def _fail(text: str, exit_code: int) -> int:
    """Print what went wrong as one line on standard error; there is no line when help was shown instead."""
    if text.strip():
        tell(" ".join(text.split()), "error")
    return exit_code
