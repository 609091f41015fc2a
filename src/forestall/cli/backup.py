"""``forestall backup``: all that is kept in one file, and a new state folder from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json

File = Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]


def register(app: typer.Typer) -> None:
    """Add the command ``backup`` with its sub-commands."""
    group = typer.Typer(help="Keep all that Forestall knows of this host in one file, and begin anew from it.")
    group.command("create")(create)
    group.command("check")(check)
    group.command("restore")(restore)
    app.add_typer(group, name="backup")


def create(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it has secrets in it.")],
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the state folder into one file (tar, Zstandard), while the daemon runs or not.

    Example: forestall backup create /backup/forestall-2026-11-29.tar.zst
    """
    from forestall.bootstrap.backup import create_backup

    _tell(create_backup(configured(config, state_folder=state_folder), out), f"{out} has", as_json)


def check(file: File, as_json: JsonOption = False) -> None:
    """Say whether a backup is whole and unchanged; exit code 2 if not.

    Example: forestall backup check /backup/forestall-2026-11-29.tar.zst
    """
    from forestall.bootstrap.backup import check_backup

    _tell(check_backup(file), f"{file} is whole:", as_json)


def restore(
    file: File,
    of_the_moment: Annotated[
        bool,
        typer.Option("--with-originals", help="Also how VMs were set before: only on the same host, at once."),
    ] = False,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new state folder from a backup; one that is there and not empty is left alone.

    Example: forestall backup restore /backup/forestall-2026-11-29.tar.zst --state-folder /var/lib/forestall
    """
    from forestall.bootstrap.backup import restore_backup

    folder = configured(config, state_folder=state_folder).state_folder
    _tell(restore_backup(file, folder, of_the_moment=of_the_moment), f"{folder} has", as_json)


def _tell(manifest: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        print_json(manifest)
        return
    files = manifest["files"].values()
    mib = sum(each["size"] for each in files) / 2**20
    typer.echo(
        f"{what} {len(files)} files, {mib:.1f} MiB, of {manifest['host']} at {manifest['at']} ({manifest['forestall']})"
    )
