"""``forestall token``: who may use the API."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from forestall.cli.audit import written_down
from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json

if TYPE_CHECKING:
    from forestall.service.access.tokens import Tokens

Name = Annotated[str, typer.Argument(help="Name of the token: who has it.")]
Days = Annotated[float, typer.Option("--days", help="It ends after so many days.")]


def register(app: typer.Typer) -> None:
    """Add the command ``token`` with its sub-commands."""
    token = typer.Typer(help="Tokens of the API: who may come in, as what, and for VMs of which trust groups.")
    token.command("create")(create)
    token.command("list")(show)
    token.command("rotate")(rotate)
    token.command("revoke")(revoke)
    app.add_typer(token, name="token")


def create(
    name: Name,
    role: Annotated[str, typer.Option("--role", help="viewer, operator or admin.")] = "viewer",
    group: Annotated[
        list[str] | None, typer.Option("--group", help="For VMs of this trust group only; may be given again.")
    ] = None,
    days: Days = 90.0,
    state_folder: StateOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a token and print it, this once: only its hash is kept.

    Example: forestall token create grafana --role viewer --days 365
    """
    from forestall.model.errors import WrongUse
    from forestall.ports.token_book import Role

    if role not in set(Role):
        raise WrongUse(f"--role {role}: is none of {', '.join(Role)}")
    settings = configured(config, state_folder=state_folder)
    detail = {"name": name, "role": role, "groups": group, "days": days}
    with written_down(settings, "token create", detail):
        typer.echo(_tokens(settings).issue(name, Role(role), group or None, days, time.time()))


def show(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print every token: whose it is, what it is for, when it ends; never the token itself.

    Example: forestall token list
    """
    records = _tokens(configured(config, state_folder=state_folder)).records()
    if as_json:
        print_json(
            [
                {
                    "name": each.name,
                    "role": each.role.value,
                    "groups": None if each.groups is None else list(each.groups),
                    "created_at": each.created_at,
                    "expires_at": each.expires_at,
                }
                for each in records
            ]
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "role", "trust groups", "made", "ends")
    now = time.time()
    for each in records:
        groups = "all VMs" if each.groups is None else ", ".join(each.groups)
        ends = f"{_day(each.expires_at)}{' (has ended)' if each.expires_at <= now else ''}"
        table.add_row(each.name, each.role.value, groups, _day(each.created_at), ends)
    Console().print(table if records else "there are no tokens: forestall token create")


def rotate(
    name: Name,
    days: Days = 90.0,
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0.0, help="So long the old one holds on.")
    ] = 1.0,
    state_folder: StateOption = None,
    config: ConfigOption = None,
) -> None:
    """Replace a token by a new one and print that, this once.

    Example: forestall token rotate grafana
    """
    settings = configured(config, state_folder=state_folder)
    with written_down(settings, "token rotate", {"name": name, "days": days, "overlap_hours": overlap_hours}):
        typer.echo(_tokens(settings).rotate(name, days, 3_600.0 * overlap_hours, time.time()))


def revoke(name: Name, state_folder: StateOption = None, config: ConfigOption = None) -> None:
    """Take a token back: it holds no more, at once.

    Example: forestall token revoke grafana
    """
    settings = configured(config, state_folder=state_folder)
    _tokens(settings).revoke(name)  # first: it must be possible also where nothing can be written down
    with written_down(settings, "token revoke", {"name": name}):
        pass


def _tokens(settings: object) -> Tokens:
    from forestall.bootstrap.api import tokens_of

    return tokens_of(settings)  # type: ignore[arg-type]


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
