"""Reading a file of policies."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from forestall.demand.policy import PolicySet
from forestall.demand.policy_document import read_document
from forestall.demand.policy_reading import PolicyProblem
from forestall.demand.policy_values import hint, shown
from forestall.model.errors import BadPolicy
from forestall.settings.toml_file import TomlFile, read_text


def load_policy(path: Path | str) -> PolicySet:
    """Read a policy file (TOML); ``docs/policy.md`` says what may stand in it.

    Raises
    ------
    BadPolicy
        With file, line, rule and key, as far as they are known.
    """
    return parse_policy(read_policy(path), path)


def read_policy(path: Path | str) -> str:
    """Text of a policy file, not yet looked at.

    Raises
    ------
    BadPolicy
        It cannot be read, or is no text.
    """
    return read_text(Path(path), BadPolicy)


def parse_policy(text: str, name: Path | str) -> PolicySet:
    """Read a text that is known by a name; as :func:`load_policy`."""
    file = TomlFile.of(text, Path(name), BadPolicy)
    try:
        return read_document(file.document, _find_zone)
    except PolicyProblem as problem:
        raise file.refusal(problem) from problem


def _find_zone(name: str) -> ZoneInfo:
    """Look a zone up in the data base of the system, or of the package ``tzdata``."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # unknown, a path out of the data base, a folder of it
        raise ValueError(f"names the unknown time zone {shown(name)}{hint(name, available_timezones())}") from error
