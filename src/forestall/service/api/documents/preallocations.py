"""Memory and blocks ahead of time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from forestall.service.api.documents.common import AS_WHOLE
from forestall.service.preallocation import State


class NewPreallocation(BaseModel):
    """What will be needed, and by when."""

    model_config = ConfigDict(extra="forbid", strict=True)

    vm: str = Field(min_length=1, max_length=256)
    type: Literal["page", "block"] = Field("page", description="Pages of memory, or blocks of disks.")
    size_bytes: Annotated[int, Field(ge=1, lt=1 << 50), AS_WHOLE] | None = Field(
        None, description="Null: what the program took the last times."
    )
    program: str | None = Field(None, min_length=1, max_length=1_024, description="For which program of the VM.")
    place: str | None = Field(None, pattern="^/", max_length=1_024, description="Blocks: the file that they lie in.")
    offset_bytes: Annotated[int, Field(ge=0, lt=1 << 53), AS_WHOLE] | None = Field(
        None, description="Blocks: from where in the file on."
    )
    deadline_seconds: float | None = Field(None, gt=0.0, le=86_400.0, allow_inf_nan=False)
    hold_seconds: float | None = Field(None, gt=0.0, le=86_400.0, allow_inf_nan=False)
    notify: str | None = Field(
        None,
        pattern="^https?://",
        max_length=1_024,
        description="Is told, by a signed POST, when it is there or will not be (`forestall preallocate key`).",
    )


class Preallocation(BaseModel):
    """What was asked for, and what has become of it."""

    name: str
    vm_id: str
    group: str
    program: str
    kind: str
    place: str
    offset_bytes: int
    size_bytes: int
    hold_seconds: float
    asked_at: float
    deadline_at: float
    notify: str
    state: State
    why: str
    ready_at: float | None
    ended_at: float | None
    staged_bytes: int
    touched_bytes: int
    taken_bytes: int
