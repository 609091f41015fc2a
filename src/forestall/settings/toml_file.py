"""A TOML file that an operator wrote: its text, what a parser makes of it, and in which line something stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.demand.policy_reading import Place, PolicyProblem
from forestall.model.errors import BadInput

MOST_BYTES = 1 << 20
"""A settings file is written by a person; what is larger is something else."""

_SYNTAX_ERROR = re.compile(r"(.*) \(at (.*)\)", re.DOTALL)
_HEADER = re.compile(r"\s*\[\[?\s*([\w.\-\s\"']+?)\s*\]\]?\s*(#.*)?")


@dataclass(frozen=True)
class TomlFile:
    """A file that was read and parsed; ``refused_as`` is the error that is raised about it."""

    path: Path
    text: str
    document: Mapping[str, Any]
    refused_as: type[BadInput]

    @classmethod
    def read(cls, path: Path, refused_as: type[BadInput]) -> TomlFile:
        """Read and parse a file; what is wrong with it is raised as ``refused_as``, with file and line."""
        return cls.of(read_text(path, refused_as), path, refused_as)

    @classmethod
    def of(cls, text: str, path: Path, refused_as: type[BadInput]) -> TomlFile:
        """Parse a text that is known by a path, as :meth:`read` does."""
        return cls(path, text, _parse(text, path, refused_as), refused_as)

    def refusal(self, problem: PolicyProblem) -> BadInput:
        """Return the error for what is wrong with the document, with its line as far as that is known."""
        line = line_of(problem.place, self.text)
        where = f"line {line}: " if line else ""
        return self.refused_as(f"{where}{problem.what}", path=self.path)


def read_text(path: Path, refused_as: type[BadInput]) -> str:
    """Text of a file in UTF-8, not longer than a settings file is."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise refused_as(f"cannot be read: {reason[:1].lower()}{reason[1:]}", path=path) from error
    if len(data) > MOST_BYTES:
        raise refused_as(f"is larger than {MOST_BYTES} bytes", path=path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refused_as(f"line {line}: is not text in UTF-8", path=path) from error


def _parse(text: str, path: Path, refused_as: type[BadInput]) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX_ERROR.fullmatch(str(error))
        what, where = (found[1], found[2]) if found else (str(error), "end of document")
        if where == "end of document":
            last = text.splitlines() or [""]
            where = f"line {len(last)}, column {len(last[-1]) + 1}"
        raise refused_as(f"{where}: is not valid TOML: {what}", path=path) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise refused_as("is not valid TOML: a value is too long or nested too deeply", path=path) from error


def line_of(place: Place, text: str) -> int | None:
    """Line of a key, or else of its table; None where neither has a line of its own."""
    key = None if place.key is None else re.compile(rf"\s*[\"']?{re.escape(place.key)}[\"']?\s*[=.]")
    inner = f"{place.table}.{place.key}".removeprefix(".")
    header, rules, table_line = "", -1, None
    for number, line in enumerate(text.splitlines(), start=1):
        found = _HEADER.fullmatch(line)
        if found:
            header = re.sub(r"[\s\"']", "", found[1])
            rules += header == "rule"
        if header.partition(".")[0] == "rule" and rules != place.index:
            continue
        if found and header == place.table:
            table_line = table_line or number
        if header == inner if found else header == place.table and key is not None and key.match(line):
            return number
    if table_line is None and place.table:  # written inline, as a key of the table around it
        outer, _, name = place.table.rpartition(".")
        return line_of(Place(outer, place.index, key=name), text)
    return table_line
