"""Who may ask, and what was asked."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from forestall.ports.token_book import Role


class Token(BaseModel):
    """A token: never its secret."""

    name: str
    role: Role
    groups: list[str] | None = Field(description="Trust groups whose VMs it sees; null: all VMs.")
    created_at: float
    expires_at: float


class AuditEntry(BaseModel):
    """What somebody did, or tried to."""

    sequence: int
    at: float
    who: str
    role: str
    place: str
    what: str
    result: str
    detail: dict[str, Any]
    before: str
    hash: str


class You(BaseModel):
    """Who asks."""

    name: str
    role: Role
    groups: list[str] | None
