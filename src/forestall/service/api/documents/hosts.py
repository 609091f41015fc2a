"""Hosts and their VMs: what they hold, what was forecast, measured and decided."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from forestall.model.decision import Result, Ruling
from forestall.model.forecast import Statistic
from forestall.model.mode import Mode
from forestall.model.resources import Resource


class Pool(BaseModel):
    """What the VMs of a host share of one resource."""

    resource: Resource
    unit: str
    capacity: float | None = Field(description="What may be allocated in all; null: without an end.")
    in_force: float | None
    demand: float | None
    allocated: float | None = Field(description="What the loop would give in all.")
    price: float | None = Field(description="λ: the weighted chance of falling short that VMs share; 0: there is room.")
    overload: float | None = Field(description="Probability that its VMs together demand more than there is.")


class Host(BaseModel):
    """A host, and the loop that looks after it."""

    name: str
    connect: str
    version: str
    mode: Mode = Field(description="The mode that holds now.")
    asked: Mode = Field(description="The mode that was asked for.")
    fault: str = Field(description="Why nothing is changed; empty where nothing is wrong.")
    lost: str = Field(description="Why the hypervisor cannot be asked; empty where it can.")
    cycles: int
    cycle_seconds: float | None
    step_seconds: int
    uptime_seconds: float
    last_at: int | None = Field(description="Start of the newest interval, seconds.")
    policy_version: int = Field(description="Of the policies in force; 0: there are none.")
    vms: int = Field(description="VMs that run, of those that you may see.")
    altered: list[str] = Field(description="VMs that may not be as they were, of those that you may see.")
    pools: list[Pool] = Field(description="None for tokens of trust groups.")


class VmResource(BaseModel):
    """One resource of a VM at the last cycle."""

    resource: Resource
    unit: str
    seen: float | None = Field(description="Demand as observed.")
    demand: float | None = Field(description="Demand as it is taken to be: more, where the VM was seen at its cap.")
    in_force: float | None
    limit: float | None = Field(description="What the VM is provisioned with.")
    wanted: float | None = Field(description="What the loop would give.")
    quantiles: dict[str, float | None] = Field(description="Of the forecast that was decided on: p50, p95, p99.")
    risk: float | None = Field(description="Probability that demand exceeds the limit within the horizon.")
    mode: Mode
    altered: bool
    lease_left_seconds: float | None
    ruling: Ruling
    reason: str


class Vm(BaseModel):
    """A VM at the last cycle."""

    name: str
    host: str
    trust_group: str = Field(description="Empty: in none.")
    risk: float | None = Field(description="The highest of its resources.")
    resources: list[VmResource]


class ForecastTarget(BaseModel):
    """A quantity that is forecast."""

    statistic: Statistic = Field(description="The mean of the interval so far ahead, or the peak until then.")
    steps: int
    quantiles: list[float | None] = Field(description="One for each level.")


class Forecast(BaseModel):
    """What one resource of a VM was forecast to demand at the last cycle."""

    resource: Resource
    unit: str
    issued_at: int
    step_seconds: int
    levels: list[float]
    targets: list[ForecastTarget]


class History(BaseModel):
    """What one resource of a VM was measured to demand: a value for each instant, null for gaps."""

    resource: Resource
    unit: str
    at: list[int] = Field(description="Starts of intervals, seconds.")
    mean: list[float | None]
    peak: list[float | None] = Field(description="The highest sample of each interval.")
    limit: list[float | None]


class Outcome(BaseModel):
    """What became of an action."""

    amount: float | None
    result: Result
    read_back: float | None
    reason: str
    at: int | None


class Restored(BaseModel):
    """The VM was set as it had been before it was ever changed."""

    vm_id: str
    at: int
    why: str


class Decision(BaseModel):
    """A decision with all that led to it."""

    model_config = ConfigDict(extra="ignore")

    vm_id: str
    resource: Resource
    decided_at: int
    in_force_at: int
    allocated: float | None
    previous: float | None
    limit: float | None
    granted: float | None
    quantiles: list[tuple[float, float | None]] = Field(description="Pairs of level and value.")
    risk: float | None
    probability: float | None
    wanted: float | None
    price: float | None
    weight: float | None
    floor: float | None
    ceiling: float | None
    budget: float | None
    policies: list[str]
    experts: dict[str, float | None]
    ruling: Ruling
    reason: str
    outcome: Outcome | None
    restored: Restored | None
    reproduced: Any = Field(None, description="What the formula gives again for these numbers.")


class PutBack(BaseModel):
    """What was set as it was, and what could not be, and why."""

    restored: list[str]
    left: list[tuple[str, str]]


class Resumed(BaseModel):
    """VMs that are looked after again."""

    resumed: list[str]
