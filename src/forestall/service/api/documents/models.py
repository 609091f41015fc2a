"""Models that forecasts come from."""

from __future__ import annotations

from pydantic import BaseModel, Field

from forestall.model.resources import Resource


class Model(BaseModel):
    """A version of the model of a resource."""

    resource: Resource
    version: str = Field(description="shipped: it comes with Forestall.")
    at: int | None = Field(description="When it took over, or was refused, seconds.")
    state: str = Field(description="in use, refused, damaged, or empty: it was in use.")
    reason: str
    trained_on: str
    scores: dict[str, float]
