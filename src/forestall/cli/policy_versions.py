"""``forestall policy apply``, ``versions`` and ``text``: which policies are in force, and were."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, ask_daemon, configured, print_json
from forestall.model.errors import WrongUse


def register(group: typer.Typer) -> None:
    """Add the commands to ``forestall policy``."""
    group.command("apply")(apply)
    group.command("versions")(versions)
    group.command("text")(text_command)


def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy file (TOML); see docs/policy.md.")],
    comment: Annotated[str, typer.Option("--comment", help="Why; it is kept with the version.")] = "",
    base: Annotated[
        int | None, typer.Option("--base", min=0, help="Only if this is still the version in force.")
    ] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a policy in force, from the next cycle on; every version is kept.

    It counts until the next is applied, or the file that the configuration names has changed and is read anew.

    Example: forestall policy apply policy.toml --comment "more for the databases"
    """
    from forestall.cli.audit import caller, written_down
    from forestall.settings import parse_policy, read_policy, remote_api

    settings, text = configured(config, state_folder=state_folder), read_policy(file)
    parse_policy(text, file)  # what is wrong is told with the file's name
    deed = {"file": str(file), "sha256": sha256(text.encode()).hexdigest(), "comment": comment, "base": base}
    with written_down(settings, "policy apply", deed) if remote_api() is None else nullcontext():
        by = caller()
        done = ask_daemon(settings.state_folder, command="apply-policy", text=text, by=by, comment=comment, base=base)
        if done is None:
            from forestall.bootstrap.policies import apply_directly

            done = apply_directly(settings, text, by, comment, base)
        if not done["applied"]:
            raise WrongUse(f"version {done['policy']['number']} is in force, not {base}: look at it first")
    if as_json:
        print_json(done["policy"])
    else:
        typer.echo(f"version {done['policy']['number']} of the policies is in force")


def versions(state_folder: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print every version of the policies that was in force, the newest last.

    Example: forestall policy versions
    """
    from forestall.bootstrap.policies import policies_of

    settings = configured(config, state_folder=state_folder)
    found = ask_daemon(settings.state_folder, command="policies")
    found = policies_of(settings).views() if found is None else found
    if as_json:
        print_json(found)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("version")
    table.add_column("since", no_wrap=True)
    for name in ("by", "comment", "sha256"):
        table.add_column(name, overflow="fold")
    for each in found:
        by = f"the file {each['by']}" if each["origin"] == "file" else each["by"]
        words = (each["number"], _at(each["at"]), by, each["comment"], each["digest"][:12])
        table.add_row(*(escape(str(word)) for word in words))
    Console().print(table if found else "there is none yet: forestall policy apply FILE")


def text_command(
    version: Annotated[int | None, typer.Argument(help="Number of a version; none: the one in force.")] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
) -> None:
    """Print the text of a version of the policies.

    Example: forestall policy text 3 > policy.toml
    """
    from forestall.bootstrap.policies import policies_of

    settings = configured(config, state_folder=state_folder)
    found = ask_daemon(settings.state_folder, command="policy", version=version) or policies_of(settings).view(version)
    typer.echo(found["text"], nl=False)


def _at(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
