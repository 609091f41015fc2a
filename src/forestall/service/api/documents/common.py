"""What documents have in common."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, Field

Item = TypeVar("Item")


def _whole(given: object) -> object:
    """JSON has numbers only: 50.0 is 50."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


AS_WHOLE = BeforeValidator(_whole)


class Page(BaseModel, Generic[Item]):
    """A part of a list, in the order of its names."""

    items: list[Item]
    next: str | None = Field(description="Give it as `after` for the next part; null: this is the last.")
