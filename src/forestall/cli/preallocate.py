"""``forestall preallocate``: memory and disk blocks that a VM will need soon, staged before it does."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json
from forestall.cli.status import asked

MIB = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the command ``preallocate`` with its sub-commands."""
    group = typer.Typer(help="Memory and disk blocks that a VM will need soon, staged before it does.")
    group.command("request")(request)
    group.command("status")(status)
    group.command("cancel")(cancel)
    group.command("key")(key)
    app.add_typer(group, name="preallocate")


def request(
    vm: Annotated[str, typer.Argument(help="Name of the VM.")],
    kind: Annotated[str, typer.Option("--type", help="What: page (memory) or block (of its disks).")] = "page",
    mib: Annotated[float | None, typer.Option(help="How much, MiB; without it, what the program took.")] = None,
    place: Annotated[
        str | None, typer.Option(help="Blocks of this image file, in place of those of a program.")
    ] = None,
    from_mib: Annotated[float, typer.Option(min=0, max=1e12, help="Where in that file.")] = 0.0,
    program: Annotated[
        str | None, typer.Option(help="For which program; what it takes is remembered for next time.")
    ] = None,
    deadline: Annotated[float | None, typer.Option(help="It must be there within so many seconds.")] = None,
    hold: Annotated[float | None, typer.Option(help="And is kept for so many, until it is touched.")] = None,
    notify: Annotated[
        str | None, typer.Option(help="Who is told: https://..., http://... or unix:/PATH of a socket.")
    ] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have memory or blocks staged for a VM at once. Shadowing must be enabled for its trust group.

    Which blocks a program reads is taken down while a request for it is held, and staged the next time.

    Example: forestall preallocate request web-1 --mib 64 --program migrate --notify https://manager.example/ready
    """
    wanted = {
        "type": kind,
        "place": place,
        "offset_bytes": int(from_mib * MIB),
        "size_bytes": None if mib is None else int(mib * MIB),
        "program": program,
        "deadline_seconds": deadline,
        "hold_seconds": hold,
        "notify": notify,
    }
    folder = configured(config, state_folder=state_folder).state_folder
    _show([asked(folder, "preallocate", vm=vm, **wanted)], as_json)


def status(
    name: Annotated[str | None, typer.Argument(help="Of one request; none: of all.")] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what has become of requests.

    Example: forestall preallocate status
    """
    from forestall.model.errors import WrongUse

    found = asked(configured(config, state_folder=state_folder).state_folder, "preallocations")
    if name is not None:
        found = [row for row in found if row["name"] == name]
        if not found:
            raise WrongUse(f"there is no request {name!r}, or no longer")
    _show(found, as_json)


def cancel(
    name: Annotated[str, typer.Argument(help="Of the request.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a request back; what is staged for it and was not touched is given back.

    Example: forestall preallocate cancel 0f3a5b7c9d1e2f40
    """
    folder = configured(config, state_folder=state_folder).state_folder
    _show([asked(folder, "cancel-preallocation", name=name)], as_json)


def key(state_folder: StateOption = None, config: ConfigOption = None) -> None:
    """Print the key, in hex, that webhooks are signed with: HMAC-SHA256 of the body, in X-Forestall-Signature.

    Example: forestall preallocate key
    """
    from forestall.bootstrap.staging_live import notice_key

    typer.echo(notice_key(configured(config, state_folder=state_folder)).hex())


def _show(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.staging_tables import preallocations_table

    Console().print(preallocations_table(found))
