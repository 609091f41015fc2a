"""Which policies are in force: those of the file, or those that were applied since; see ``forestall policy apply``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forestall.adapters.files.liveness import locked
from forestall.adapters.files.policy_book import FilePolicyBook
from forestall.demand.policy import PolicySet
from forestall.service.configuration import Configuration
from forestall.service.policies import Policies
from forestall.settings import parse_policy, read_policy


def policies_of(configuration: Configuration) -> Policies:
    """Every version of the policies of a state folder, and the file that the configuration names."""
    path = configuration.policies

    def file() -> tuple[str | None, str]:
        return (None, "") if path is None else (str(path), read_policy(path))

    return Policies(FilePolicyBook(configuration.state_folder), parse_policy, file)


def policies_kept(state_folder: Path) -> PolicySet | None:
    """What a state folder says is in force; for who has no configuration."""
    return Policies(FilePolicyBook(state_folder), parse_policy).kept()


def apply_directly(configuration: Configuration, text: str, by: str, comment: str, base: int | None) -> dict[str, Any]:
    """Apply a policy without a daemon: it is in force when one starts.

    Raises
    ------
    StoreError
        A daemon runs on this state folder, or it could not be kept.
    """
    with locked(configuration.state_folder):
        return policies_of(configuration).apply_and_view(text, by, comment, base)
