"""``forestall audit``: who did what through the API, and with tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json

if TYPE_CHECKING:
    from forestall.service.configuration import Configuration

HERE = "command line"


def register(app: typer.Typer) -> None:
    """Add the command ``audit`` with its sub-commands."""
    audit = typer.Typer(help="Who changed what through the API, and made or took back tokens; nothing is ever removed.")
    audit.command("export")(export)
    audit.command("verify")(verify)
    app.add_typer(audit, name="audit")


def export(
    after: Annotated[int, typer.Option("--after", min=0, help="Only entries after this number.")] = 0,
    state_folder: StateOption = None,
    config: ConfigOption = None,
) -> None:
    """Print the audit log as JSON lines, oldest first; the last line's sequence and hash are what to note elsewhere.

    Example: forestall audit export > audit-2026-11.jsonl
    """
    import json
    from dataclasses import asdict

    from forestall.bootstrap.api import audit_log_of

    for entry in audit_log_of(configured(config, state_folder=state_folder)).entries(after):
        typer.echo(json.dumps(asdict(entry)))


def verify(
    known: Annotated[
        str | None, typer.Option("--known", help="SEQUENCE:HASH of an entry that was noted elsewhere.")
    ] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether the audit log is whole: nothing changed, left out or put in; exit code 1 if not.

    What was cut off at the end shows only beside an entry that was noted elsewhere.

    Example: forestall audit verify --known 4711:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    from forestall.bootstrap.api import audit_log_of
    from forestall.model.errors import StoreError, WrongUse
    from forestall.service.access.audit import verified

    noted = None
    if known is not None:
        if not (match := re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", known)):
            raise WrongUse(f"--known {known}: must be as 4711:HASH, of 64 hexadecimal digits")
        noted = int(match[1]), match[2]
    try:
        last = verified(audit_log_of(configured(config, state_folder=state_folder)).entries(), noted)
    except StoreError as error:
        raise StoreError(f"the audit log is not whole: {error}") from error
    found = {"entries": last.sequence if last else 0, "hash": last.hash if last else None}
    if as_json:
        print_json(found)
    else:
        typer.echo(f"whole: {last.sequence} entries; to note: {last.sequence}:{last.hash}" if last else "nothing yet")


def caller() -> str:
    """Who has started this command."""
    import getpass
    import os

    return os.environ.get("SUDO_USER") or getpass.getuser()


@contextmanager
def written_down(settings: Configuration, what: str, detail: Mapping[str, Any]) -> Iterator[None]:
    """Have what the block does in the audit log: before it is done, and what came of it."""
    from forestall.bootstrap.api import audit_log_of
    from forestall.model.errors import ForestallError
    from forestall.ports.audit_log import Deed

    log = audit_log_of(settings)

    def write(result: str) -> None:
        log.append(Deed(time.time(), caller(), "", HERE, what, result, dict(detail)))

    write("asked")
    try:
        yield
    except ForestallError as error:
        write(f"failed: {error}")
        raise
    write("done")
