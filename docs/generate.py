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
from forestall.service.api.app import api

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Made by docs/generate.py from the code; do not edit. -->"


def pages() -> dict[str, str]:
    """Text of every reference page, by file name."""
    return {"cli.md": command_line_page(), "api.md": api_page(), "errors.md": errors_page()}


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


def api_page() -> str:
    """Every operation of the API, and every part of what it gives."""
    document = api(lambda request: None, lambda text: {}, list).openapi()
    parts = [
        "# The API",
        _NOTE,
        document["info"]["description"].strip(),
        "The same as OpenAPI 3.1: `/api/v1/openapi.json`.",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += [f"## `{method.upper()} {path}`", operation["description"]]
            rows = [_api_row(each) for each in operation.get("parameters", ())]
            if body := operation.get("requestBody"):
                rows.append(f"| body | | {_content(body['content'])} |")
            if rows:
                parts.append("\n".join(["| parameter | in | meaning |", "|---|---|---|", *rows]))
            good = {status: each for status, each in operation["responses"].items() if status.startswith("2")}
            for status, each in good.items():
                parts.append(f"{status}: {_content(each.get('content', {})) or 'nothing'}.")
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" in schema and not name.startswith("Page_"):
            rows = [
                f"| `{key}` | {_kind(part)} | {part.get('description', '')} |"
                for key, part in schema["properties"].items()
            ]
            parts += [f"### {name}", schema.get("description", "")]
            parts.append("\n".join(["| part | kind | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(filter(None, parts)) + "\n"


def _content(content: Any) -> str:
    """What a body is, in a few words."""
    kinds = (_kind(each["schema"]) if name == "application/json" else f"`{name}`" for name, each in content.items())
    return ", ".join(kinds)


def _api_row(parameter: Any) -> str:
    words = parameter.get("description") or parameter["schema"].get("description", "")
    return f"| `{parameter['name']}` ({_kind(parameter['schema'])}) | {parameter['in']} | {words} |"


def _kind(schema: Any) -> str:
    """What a schema says, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"part of a list of {name[5:-1]}" if name.startswith("Page_") else name
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}" if "items" in schema else "list"
    return str(schema.get("type", "anything"))


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
