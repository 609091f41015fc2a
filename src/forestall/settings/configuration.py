"""Reading ``forestall.toml``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from forestall.demand.policy_reading import PolicyProblem
from forestall.model.errors import BadInput
from forestall.service.configuration import Configuration
from forestall.service.configuration_document import read_configuration
from forestall.settings.toml_file import TomlFile

DEFAULT_FILE = Path("/etc/forestall/forestall.toml")
FILE_VARIABLE = "FORESTALL_CONFIG"
"""Environment variable that names another file."""


def configuration_file(path: Path | str | None = None, default: Path = DEFAULT_FILE) -> Path | None:
    """Return which file holds: ``path``, else what the environment names, else the default if it exists.

    None says that there is no file: the defaults hold.
    """
    if path is not None:
        return Path(path)
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    try:
        default.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it may be there: reading it says what is wrong
    return default


def load_configuration(path: Path | str | None = None, default: Path = DEFAULT_FILE) -> Configuration:
    """Read how Forestall is set; ``packaging/forestall.toml`` has every key.

    Parameters
    ----------
    path
        A file (TOML). None: the file that ``FORESTALL_CONFIG`` names, else ``default`` if it exists, else none at all.

    Returns
    -------
    Configuration
        What the file says, and defaults for the rest. Relative paths of ``policies`` and ``topology`` start at the
        file's folder.

    Raises
    ------
    BadInput
        With file, line, table and key, as far as they are known.
    """
    chosen = configuration_file(path, default)
    if chosen is None:
        return Configuration()
    file = TomlFile.read(chosen, BadInput)
    try:
        configuration = read_configuration(file.document)
    except PolicyProblem as problem:
        raise file.refusal(problem) from problem
    if configuration.fabric.topology is not None:
        topology = chosen.parent / configuration.fabric.topology
        configuration = replace(configuration, fabric=replace(configuration.fabric, topology=topology))
    if configuration.policies is None:
        return configuration
    return replace(configuration, policies=chosen.parent / configuration.policies)
