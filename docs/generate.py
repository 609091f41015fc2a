"""Writes ``docs/reference/`` from the code: ``python docs/generate.py`` (or ``make docs``).

``pages()`` gives the text of every page by its name, so that a test can compare it with what is there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from forestall.cli import make_app
from forestall.model import errors
from forestall.model.errors import ForestallError

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Made by docs/generate.py from the code; do not edit. -->"


def pages() -> dict[str, str]:
    """Text of every reference page, by file name."""
    return {"cli.md": command_line_page(), "errors.md": errors_page()}


def command_line_page() -> str:
    """Every command with its arguments, options, defaults and examples."""
    app: Any = typer.main.get_command(make_app())
    parts = [
        "# The command line",
        _NOTE,
        "Exit codes: 0 done, 1 failed, 2 wrong use or bad input. What went wrong is one line on standard error.",
    ]
    for path, command in commands(app):
        parts += [f"{'#' * (1 + len(path.split()))} `{path}`", *_help_of(command)]
        rows = [_row(p) for p in command.params if not p.hidden and p.name != "help"]
        if rows:
            parts.append("\n".join(["| argument or option | default | meaning |", "|---|---|---|", *rows]))
        if getattr(command, "commands", None):
            parts.append("\n".join(f"- `{path} {name}`" for name in command.commands))
    return "\n\n".join(parts) + "\n"


def commands(command: Any, path: str = "forestall") -> Iterator[tuple[str, Any]]:
    """Every command below and including ``command`` with the words that call it, groups before their members."""
    yield path, command
    for name, member in getattr(command, "commands", {}).items():
        yield from commands(member, f"{path} {name}")


def _help_of(command: Any) -> Iterator[str]:
    """Paragraphs of the help text; consecutive examples become one block of code."""
    examples: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc("\n\n".join(filter(None, (command.help, command.epilog))))):
        text = " ".join(paragraph.replace("\b", "").split())
        if found := re.match(r"Examples?: *(.*)", text):
            examples.append(found[1])
        else:
            yield text
    if examples:
        yield "\n".join(["```sh", *examples, "```"])


def _row(parameter: Any) -> str:
    """One line of the table of a command's arguments and options."""
    if parameter.param_type_name == "argument":
        name = f"`{(parameter.metavar or parameter.name).upper()}`"
    else:
        name = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    if parameter.required:
        default = "required"
    elif parameter.default is None or parameter.default is False or callable(parameter.default):
        default = ""
    else:
        default = f"`{getattr(parameter.default, 'value', parameter.default)}`"
    meaning = " ".join((parameter.help or "").split()).replace("|", r"\|")
    return f"| {name} | {default} | {meaning} |"


def errors_page() -> str:
    """Every error that Forestall raises on purpose: what it means, and the exit code of the command."""
    rows = [
        f"| {' → '.join(_names(error))} | {error.exit_code} | {_meaning(error)} |"
        for error in sorted(_tree(), key=_names)
    ]
    return "\n\n".join(
        [
            "# Errors",
            _NOTE,
            "A command that fails says why in one line, `forestall: ...`, on standard error. Anything that is not in "
            "this tree and still escapes is a defect of Forestall.",
            "\n".join(["| error | exit code | meaning |", "|---|---|---|", *rows]),
        ]
    ) + "\n"  # fmt: skip


def _tree() -> list[type[ForestallError]]:
    found = (value for value in vars(errors).values() if inspect.isclass(value))
    return [value for value in found if issubclass(value, ForestallError)]


def _names(error: type[ForestallError]) -> list[str]:
    """Names from the root of the tree down to ``error``."""
    return [c.__name__ for c in reversed(error.__mro__) if issubclass(c, ForestallError)]


def _meaning(error: type[ForestallError]) -> str:
    return " ".join(inspect.getdoc(error).split("\n\n")[0].split())  # type: ignore[union-attr]


def write() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
