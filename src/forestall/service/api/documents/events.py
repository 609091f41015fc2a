"""Who is told of events."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

EventKind = Literal["cycle", "mode", "fault", "contact", "vm-started", "vm-stopped", "vm-altered", "vm-restored"]


class NewWebhook(BaseModel):
    """Somebody who is to be told of events by a signed POST."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    url: str = Field(pattern="^https?://[!-~]+$", max_length=1_024)
    kinds: list[EventKind] = Field(
        ["mode", "fault", "contact", "vm-altered", "vm-restored"], min_length=1, max_length=8
    )
    groups: list[Annotated[str, Field(min_length=1, max_length=128)]] | None = Field(
        None, min_length=1, max_length=100, description="Trust groups of whose VMs it is told; null: of all."
    )


class Webhook(BaseModel):
    """Who is told of events, and what has become of it since the API was started."""

    name: str
    url: str
    kinds: list[EventKind]
    groups: list[str] | None
    by: str
    created_at: float
    sent: int
    given_up: int = Field(description="Of those that were sent: not taken within a minute.")
    fault: str = Field(description="Why the last one was given up.")


class MadeWebhook(Webhook):
    """A webhook, with what its events are signed with."""

    secret: str = Field(description="Is not shown again. `X-Forestall-Signature: sha256=HEX`, HMAC-SHA256 of the body.")
