"""What takes minutes: dry runs of policies, and replays of traces."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from forestall.model.resources import Resource
from forestall.ports.job_book import Job as PortJob
from forestall.ports.job_book import JobState
from forestall.service.api.documents.common import AS_WHOLE
from forestall.service.api.documents.policies import DraftPolicy


class NewDryRun(DraftPolicy):
    """A policy, and how much of the history it is to be tried on."""

    last_seconds: float = Field(604_800.0, ge=60.0, le=366 * 86_400.0, description="The last so many; a week.")
    violation_budget: float | None = Field(
        None, gt=0.0, lt=0.5, description="Share of its intervals in which a VM may fall short; null: as configured."
    )


class KeptTrace(BaseModel):
    """A demand trace that can be replayed."""

    name: str = Field(description="Made from its content.")
    label: str
    size_bytes: int
    at: float


class NewReplay(BaseModel):
    """A replay of the demand loop, as `forestall replay demand` does it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trace: str = Field(min_length=1, max_length=64)
    policy: str = Field("forestall", pattern="^[a-z0-9_,]{1,256}$", description="forestall, peers, or all.")
    violation_budget: float = Field(0.01, gt=0.0, lt=0.5)
    evaluate_from: Annotated[int, Field(ge=0, lt=1 << 40), AS_WHOLE] | None = Field(
        None, description="First instant that is evaluated, seconds; what is before it is learned from."
    )
    resources: list[Resource] = Field([], max_length=6, description="None: all that the trace has.")
    vms_per_host: Annotated[int, Field(ge=0, le=10_000), AS_WHOLE] = Field(0, description="So many share a host.")
    overcommit: float = Field(1.0, gt=0.0, le=1_000.0, description="Sum of the limits on a host over what it has.")
    policies: str | None = Field(None, max_length=1 << 20, description="Text of policies (TOML).")


class Job(BaseModel):
    """What takes minutes."""

    name: str
    kind: str
    by: str
    asked: dict[str, Any]
    state: JobState
    created_at: float
    began_at: float | None
    ended_at: float | None
    why: str = Field(description="Why it failed; empty where it did not.")

    @classmethod
    def of(cls, job: PortJob) -> Job:
        """As it is kept."""
        return cls(**{name: getattr(job, name) for name in cls.model_fields})


class Given(BaseModel):
    """What a VM had on average, and in which share of the intervals it demanded more."""

    allocated: float
    short_share: float


class GivenToAll(Given):
    """What all VMs had together on average; the share of VM-intervals that fell short, and of demand that was unmet."""

    unmet_share: float


class DryRunResource(BaseModel):
    """One resource of all VMs together under the policies in force, and under those that were tried."""

    resource: Resource
    unit: str
    demanded: float
    limit: float | None = Field(description="null: it has none.")
    before: GivenToAll
    after: GivenToAll


class DryRunChange(BaseModel):
    """A VM for which something would have been different."""

    vm: str
    resource: Resource
    unit: str
    demanded: float
    before: Given
    after: Given


class DryRun(BaseModel):
    """What policies would have done with what was recorded."""

    since: int
    until: int
    step_seconds: int
    vms: int
    budget: float
    resources: list[DryRunResource]
    changed: list[DryRunChange] = Field(description="The most changed first.")
    more: int = Field(description="So many more changed.")
    notes: list[str]
