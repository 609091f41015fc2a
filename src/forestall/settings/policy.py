"""Reading a file of policies."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from forestall.demand.policy import PolicySet
from forestall.demand.policy_document import read_document
from forestall.demand.policy_reading import PolicyProblem
from forestall.demand.policy_values import hint, shown
from forestall.model.errors import BadPolicy
from forestall.settings.toml_file import TomlFile


def load_policy(path: Path | str) -> PolicySet:
    """Read a policy file (TOML); ``docs/policy.md`` says what may stand in it.

    Raises
    ------
    BadPolicy
        With file, line, rule and key, as far as they are known.
    """
    file = TomlFile.read(Path(path), BadPolicy)
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
