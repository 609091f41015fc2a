"""``forestall config``: check how Forestall is set, and show what is in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from forestall.service.configuration import Configuration

_File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A forestall.toml; else FORESTALL_CONFIG, else /etc/forestall/forestall.toml."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_NO_FILE = "no file: the defaults are in force"


def register(app: typer.Typer) -> None:
    """Add ``config`` and its commands to the command line."""
    group = typer.Typer(help="Check forestall.toml, and show what is in force.", no_args_is_help=True)
    group.command("check")(check_command)
    group.command("show")(show_command)
    app.add_typer(group, name="config")


def check_command(file: _File = None, json: _Json = False) -> None:
    """Check forestall.toml and the policies that it names, and print what is in force.

    Example: forestall config check /etc/forestall/forestall.toml
    """
    from forestall.service.configuration_document import settings_of, toml_value
    from forestall.settings import load_policy

    path, configuration = _loaded(file)
    if configuration.policies is not None:
        load_policy(configuration.policies)
    changed = _changed(configuration)
    if json:
        _print_json({"file": path and str(path), "changed": changed, "settings": _plain(configuration)})
        return
    typer.echo(f"{path}: settings that differ from the defaults: {len(changed)}" if path else _NO_FILE)
    rows = settings_of(configuration).items()
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        given_by = "file" if key in changed else "default"
        typer.echo(f"{given_by:<8}  {key:<{width}}  {toml_value(value)}")


def show_command(file: _File = None, json: _Json = False) -> None:
    """Show what is in force, defaults included, in the form of forestall.toml.

    Example: forestall config show > forestall.toml
    """
    from forestall.service.configuration_document import document_of

    path, configuration = _loaded(file)
    if json:
        _print_json(_plain(configuration))
        return
    typer.echo(f"# {path or _NO_FILE}")
    typer.echo(document_of(configuration), nl=False)


def _loaded(file: Path | None) -> tuple[Path | None, Configuration]:
    from forestall.settings import configuration_file, load_configuration

    path = configuration_file(file)
    return path, load_configuration(path)


def _changed(configuration: Configuration) -> list[str]:
    """Keys whose value is not the default."""
    from forestall.service.configuration import Configuration
    from forestall.service.configuration_document import settings_of

    defaults = settings_of(Configuration())
    return [key for key, value in settings_of(configuration).items() if value != defaults[key]]


def _plain(configuration: Configuration) -> Any:
    """Tables and values as JSON has them."""
    import msgspec

    return msgspec.to_builtins(configuration, enc_hook=str)


def _print_json(value: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
