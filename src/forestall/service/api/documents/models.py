"""Models that forecasts come from."""

from __future__ import annotations

from pydantic import BaseModel, Field

from forestall.model.forecast import Statistic
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


class ReliabilityPoint(BaseModel):
    """A point of a reliability diagram: of reliable forecasts the share is the level."""

    level: float
    share: float | None = Field(description="Of the outcomes, at or below the quantile; null: there were none.")


class Reliability(BaseModel):
    """How reliable forecasts of a resource were in the last days, all VMs together."""

    resource: Resource
    statistic: Statistic = Field(description="The mean of the interval so far ahead, or the peak until then.")
    steps: int
    step_seconds: int
    outcomes: float = Field(description="How many there were; what is older counts for less.")
    points: list[ReliabilityPoint] = Field(description="One for each level.")
