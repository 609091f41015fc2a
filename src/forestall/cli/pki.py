"""``forestall pki``: certificates of hosts and of the controller."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from forestall.cli.live_options import JsonOption, print_json

FolderOption = Annotated[Path, typer.Option("--folder", help="Folder of the authority; keep it off the hosts.")]
DEFAULT_FOLDER = Path("/etc/forestall/pki")


def register(app: typer.Typer) -> None:
    """Add the commands ``pki ...``."""
    pki = typer.Typer(help="Certificates with which hosts and the controller know each other.", no_args_is_help=True)
    pki.command("init")(init)
    pki.command("issue")(issue)
    pki.command("revoke")(revoke)
    pki.command("list")(listed)
    app.add_typer(pki, name="pki")


def init(
    folder: FolderOption = DEFAULT_FOLDER,
    name: Annotated[str, typer.Option("--name", help="Name of the authority.")] = "Forestall",
) -> None:
    """Make an authority, which holds for ten years.

    Example: forestall pki init --folder pki
    """
    from forestall.adapters.pki.authority import Authority

    Authority.make(folder, name, datetime.now(UTC))
    typer.echo(f"{folder}: an authority; copy ca.pem and crl.pem to every host, and ca.key to none")


def issue(
    name: Annotated[str, typer.Argument(help="Name of the host, or of the controller.")],
    folder: FolderOption = DEFAULT_FOLDER,
    days: Annotated[int, typer.Option("--days", help="How long it holds.")] = 90,
    address: Annotated[
        list[str] | None,
        typer.Option("--address", help="Name or address that hosts reach the controller by; may be repeated."),
    ] = None,
) -> None:
    """Issue a certificate and its key; anew for a name that has one.

    Example: forestall pki issue controller --address controller.example --folder pki
    """
    from forestall.adapters.pki.authority import Authority

    path = Authority(folder).issue(name, datetime.now(UTC), days=days, addresses=tuple(address or ()))
    typer.echo(f"{path} and {path.with_suffix('.key')}")


def revoke(
    name: Annotated[str, typer.Argument(help="Whose certificates.")], folder: FolderOption = DEFAULT_FOLDER
) -> None:
    """Revoke every certificate of a name; the controller must be given the new crl.pem.

    Example: forestall pki revoke host-7 --folder pki
    """
    from forestall.adapters.pki.authority import Authority

    count = Authority(folder).revoke(name, datetime.now(UTC))
    typer.echo(f"{count} revoked; copy {folder / 'crl.pem'} to the controller, which takes it up by itself")


def listed(folder: FolderOption = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """List every certificate that was issued, when it ends, and whether it was revoked.

    Example: forestall pki list --folder pki
    """
    from forestall.adapters.pki.authority import Authority

    issued = Authority(folder).issued()
    if as_json:
        print_json([{**i._asdict(), "serial": f"{i.serial:x}", "ends_at": i.ends_at.isoformat()} for i in issued])
        return
    now = datetime.now(UTC)
    for certificate in issued:
        state = "revoked" if certificate.revoked else "ended" if certificate.ends_at < now else "holds"
        typer.echo(f"{certificate.name:30} {state:8} until {certificate.ends_at:%Y-%m-%d %H:%M} UTC")
