"""``forestall lab``: a few small real guests with real work in them, to try Forestall on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.bootstrap.telling import tell
from forestall.model.errors import WrongUse

if TYPE_CHECKING:
    from forestall.lab.plan import Pace
    from forestall.lab.site import Lab

_Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Folder of the running lab; /run/forestall-lab.")
]
_Name = Annotated[str | None, typer.Option("--name", help="Name of its namespace and domains; the folder's.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add ``lab`` and its commands to the command line."""
    group = typer.Typer(help="A few small real QEMU guests with real work in them.", no_args_is_help=True)
    group.command("up")(up_command)
    group.command("down")(down_command)
    group.command("status")(status_command)
    app.add_typer(group, name="lab")


def up_command(
    folder: _Folder = None,
    name: _Name = None,
    guests: Annotated[
        str,
        typer.Option(
            "--guests",
            metavar="N|NAMES",
            help="How many, or which, NAME or NAME:PORT: web,redis,database,batch,idle,spare,postgres,stream.",
        ),
    ] = "5",
    day: Annotated[float, typer.Option("--day", metavar="SECONDS", help="How long a day of their work takes.")] = 600.0,
    load: Annotated[float, typer.Option("--load", metavar="SHARE", help="Share of their full work; 1 is all.")] = 1.0,
    accelerator: Annotated[
        str, typer.Option("--accelerator", metavar="auto|kvm|tcg", help="What runs the guests; auto tries KVM.")
    ] = "auto",
    json: _Json = False,
) -> None:
    """Start the guests, and wait until each has reported. The first time their image is built (minutes).

    Needs root, QEMU, libvirt, and debootstrap with a network the first time. Touches nothing of a libvirt that the
    system has.

    Example: forestall lab up --guests web,redis --day 300
    """
    lab = _lab(folder, name)
    lab.up(_guests(guests), pace=_pace(day, load), accelerator=_accelerator(accelerator))
    lab.wait()
    _print_status(lab, json)


def down_command(folder: _Folder = None, name: _Name = None) -> None:
    """Stop the guests and remove everything of the lab but the image. Harmless when nothing is there.

    Example: forestall lab down
    """
    _lab(folder, name).down()


def status_command(folder: _Folder = None, name: _Name = None, json: _Json = False) -> None:
    """List the guests, their processes and how old their last reports are.

    Example: forestall lab status --json
    """
    _print_status(_lab(folder, name), json)


def _lab(folder: Path | None, name: str | None) -> Lab:
    from forestall.lab.place import DEFAULT_FOLDER
    from forestall.lab.site import Lab

    return Lab(folder or DEFAULT_FOLDER, name=name, say=tell)


def _guests(text: str) -> int | tuple[str, ...]:
    return int(text) if text.isdecimal() else tuple(part.strip() for part in text.split(","))


def _pace(day_seconds: float, load_ratio: float) -> Pace:
    from forestall.lab.plan import Pace

    if not 10 <= day_seconds < float("inf"):
        raise WrongUse(f"--day {day_seconds:g} is not at least 10 seconds")
    if not 0 <= load_ratio <= 1:
        raise WrongUse(f"--load {load_ratio:g} is not between 0 and 1")
    return Pace(day_seconds=day_seconds, load_ratio=load_ratio)


def _accelerator(text: str) -> Any:
    from forestall.lab.accelerator import Accelerator

    if text == "auto":
        return None
    if text not in set(Accelerator):
        raise WrongUse(f"--accelerator {text!r} is none of auto, {', '.join(Accelerator)}")
    return Accelerator(text)


def _print_status(lab: Lab, json: bool) -> None:
    from forestall.cli.policy import _print_columns, _print_json

    guests = lab.status()
    if json:
        described = {"uri": lab.uri if guests else None, "name": lab.place.name, "folder": str(lab.place.folder)}
        _print_json({**described, "accelerator": lab.accelerator(), "guests": guests})
        return
    if not guests:
        typer.echo("the lab is down")
        return
    typer.echo(f"connect to: {lab.uri} (guests run on {lab.accelerator()})")
    typer.echo(f"try: forestall run --config {lab.place.settings}")
    rows = [[row["guest"], row["domain"], row["state"], _shown(row["pid"]), _age(row)] for row in guests]
    _print_columns([["guest", "domain", "state", "pid", "last report"], *rows])


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _age(row: dict[str, Any]) -> str:
    return "none yet" if row["report_age_seconds"] is None else f"{row['report_age_seconds']:.1f} s ago"
