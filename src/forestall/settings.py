"""The only reader of settings: files of an operator, and the environment."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from forestall.demand.policy import PolicySet
from forestall.demand.policy_document import read_document
from forestall.demand.policy_reading import Place, PolicyProblem
from forestall.demand.policy_values import hint, shown
from forestall.model.errors import BadPolicy

MOST_BYTES = 1 << 20
"""A settings file is written by a person; what is larger is something else."""

_SYNTAX_ERROR = re.compile(r"(.*) \(at (.*)\)", re.DOTALL)
_HEADER = re.compile(r"\s*\[\[?\s*([\w.\-\s\"']+?)\s*\]\]?\s*(#.*)?")


def load_policy(path: Path | str) -> PolicySet:
    """Read a policy file (TOML); ``docs/policy.md`` says what may stand in it.

    Raises
    ------
    BadPolicy
        With file, line, rule and key, as far as they are known.
    """
    text = _read_text(Path(path))
    document = _parse(text, Path(path))
    try:
        return read_document(document, _find_zone)
    except PolicyProblem as problem:
        line = _line_of(problem.place, text)
        where = f"line {line}: " if line else ""
        raise BadPolicy(f"{where}{problem.what}", path=path) from problem


def _read_text(path: Path) -> str:
    """Text of a file in UTF-8, not longer than a settings file is."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise BadPolicy(f"cannot be read: {reason[:1].lower()}{reason[1:]}", path=path) from error
    if len(data) > MOST_BYTES:
        raise BadPolicy(f"is larger than {MOST_BYTES} bytes", path=path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadPolicy(f"line {line}: is not text in UTF-8", path=path) from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX_ERROR.fullmatch(str(error))
        what, where = (found[1], found[2]) if found else (str(error), "end of document")
        if where == "end of document":
            last = text.splitlines() or [""]
            where = f"line {len(last)}, column {len(last[-1]) + 1}"
        raise BadPolicy(f"{where}: is not valid TOML: {what}", path=path) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise BadPolicy("is not valid TOML: a value is too long or nested too deeply", path=path) from error


def _find_zone(name: str) -> ZoneInfo:
    """Look a zone up in the data base of the system, or of the package ``tzdata``."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # unknown, a path out of the data base, a folder of it
        raise ValueError(f"names the unknown time zone {shown(name)}{hint(name, available_timezones())}") from error


def _line_of(place: Place, text: str) -> int | None:
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
        return _line_of(Place(outer, place.index, key=name), text)
    return table_line
