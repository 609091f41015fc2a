"""Tokens of the API as they are kept: never the secret, only what proves it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """What somebody may do; each may what the one before may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether somebody of this role may do what needs another."""
        return list(Role).index(self) >= list(Role).index(needed)


@dataclass(frozen=True)
class Proof:
    """A secret that is not known any more: its SHA-256 (hexadecimal), and until when it holds, seconds."""

    sha256: str
    until: float


@dataclass(frozen=True)
class TokenRecord:
    """One token.

    Attributes
    ----------
    name
        Who has it.
    handle
        The part of the token that is no secret; it finds this record.
    role, groups
        What it is for, and for VMs of which trust groups; None: for all VMs, also those in no group.
    created_at
        Instant, seconds.
    proofs
        The newest secret last; the one before may hold for a while after it was replaced.
    """

    name: str
    handle: str
    role: Role
    groups: tuple[str, ...] | None
    created_at: float
    proofs: tuple[Proof, ...]

    @property
    def expires_at(self) -> float:
        """When the newest secret ends, seconds."""
        return self.proofs[-1].until


class TokenBook(Protocol):
    """Keeps them by name. Errors are :class:`~forestall.model.errors.StoreError`."""

    def read(self) -> Mapping[str, TokenRecord]:
        """Every token."""
        ...

    def changing(self) -> AbstractContextManager[dict[str, TokenRecord]]:
        """Every token, to be changed by one at a time; kept for good when the block ends without an error."""
        ...
