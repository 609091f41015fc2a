"""Trust groups."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TrustGroup(BaseModel):
    """VMs that may learn from each other, and that are staged for together."""

    group: str
    members: list[str] = Field(description="Who was put into it.")
    by_policy: bool = Field(description="Whether the policy file names it.")
    vms: list[str] = Field(description="Who is in it and runs.")
    shadowing: bool
    horizon_seconds: float | None


class NewTrustGroup(BaseModel):
    """A trust group to be made."""

    model_config = ConfigDict(extra="forbid", strict=True)

    group: str = Field(min_length=1, max_length=128, pattern="^[^/]*$")


class TrustGroupChange(BaseModel):
    """What is to be changed of a trust group; null: nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    shadowing: bool | None = None
    horizon_seconds: float | None = Field(None, ge=0.1, le=86_400.0, allow_inf_nan=False)
