"""Which policies are in force: those of the file, or those that were applied since; see ``forestall policy apply``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forestall.adapters.files.policy_book import FilePolicyBook
from forestall.demand.policy import PolicySet
from forestall.service.configuration import Configuration
from forestall.service.policies import Policies
from forestall.settings import parse_policy, read_policy


def policies_of(state_folder: Path) -> Policies:
    """Every version of the policies of a state folder."""
    return Policies(FilePolicyBook(state_folder), parse_policy)


def take_up(policies: Policies, configuration: Configuration) -> PolicySet | None:
    """Look at the file that the configuration names, and take it up if it has changed; what is in force.

    Raises
    ------
    BadPolicy
        It cannot be read; the policies stay as they were.
    StoreError
        What is kept of them is damaged, or cannot be written.
    """
    return policies.take_up(*_file(configuration))


def policies_in_force(configuration: Configuration) -> PolicySet | None:
    """What is in force, or will be when a daemon starts; for processes beside it, which change nothing."""
    return policies_of(configuration.state_folder).look(*_file(configuration))


def apply_directly(configuration: Configuration, text: str, by: str, comment: str, base: int | None) -> dict[str, Any]:
    """Apply a policy without a daemon: it is in force when one starts.

    Raises
    ------
    StoreError
        A daemon runs on this state folder, or it could not be kept.
    """
    from forestall.adapters.files.liveness import locked

    with locked(configuration.state_folder):
        policies = policies_of(configuration.state_folder)
        take_up(policies, configuration)  # what the file says now is older than this
        return policies.applied(text, by, comment, base)


def _file(configuration: Configuration) -> tuple[str | None, str]:
    path = configuration.policies
    return (None, "") if path is None else (str(path), read_policy(path))
