"""``forestall restore``: VMs as they were before Forestall changed them."""

from __future__ import annotations

import time
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

if TYPE_CHECKING:
    from forestall.service.configuration import Configuration

PATIENCE_SECONDS = 60.0


def register(app: typer.Typer) -> None:
    """Add the command ``restore``."""
    app.command("restore")(restore)


def restore(
    vms: Annotated[list[str] | None, typer.Argument(help="Names of VMs; none: all.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="The opposite: let the daemon act on these VMs again.")
    ] = False,
    connect: ConnectOption = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put VMs back as they were. A running daemon leaves them alone from then on; without one it is done directly.

    Example: forestall restore web-1 web-2
    """
    settings = configured(config, connect=connect, state_folder=state_folder)
    if resume:
        _resume(settings, vms or None, as_json)
        return
    restored, left = _until_done(settings, vms or None)
    if as_json:
        print_json({"restored": restored, "left": [{"vm": vm_id, "reason": reason} for vm_id, reason in left]})
    else:
        typer.echo(f"put back: {', '.join(restored)}" if restored else "nothing was changed")
    if left:
        from forestall.model.errors import HypervisorError

        raise HypervisorError("not as it was: " + "; ".join(f"{vm_id}: {reason}" for vm_id, reason in left))


def _until_done(settings: Configuration, vms: list[str] | None) -> tuple[list[str], list[tuple[str, str]]]:
    """Try until nothing is left, or patience ends: a balloon takes its time."""
    until = time.monotonic() + PATIENCE_SECONDS
    restored: list[str] = []
    while True:
        done, left = _once(settings, vms)
        restored += [vm_id for vm_id in done if vm_id not in restored]
        if not left or time.monotonic() > until:
            return sorted(restored), left
        vms = [vm_id for vm_id, _ in left]
        time.sleep(1.0)


def _once(settings: Configuration, vms: list[str] | None) -> tuple[list[str], list[tuple[str, str]]]:
    answer: dict[str, Any] | None = ask_daemon(settings.state_folder, command="restore", vms=vms)
    if answer is not None:
        return answer["restored"], [(vm_id, reason) for vm_id, reason in answer["left"]]
    from forestall.bootstrap.live import restore_directly

    result = restore_directly(settings, vms)
    return list(result.done), list(result.left)


def _resume(settings: Configuration, vms: list[str] | None, as_json: bool) -> None:
    from forestall.model.errors import WrongUse

    answer = ask_daemon(settings.state_folder, command="resume", vms=vms)
    if answer is None:
        raise WrongUse(f"no daemon runs on {settings.state_folder}")
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"acted on again: {', '.join(answer['resumed'])}" if answer["resumed"] else "none was left alone")
