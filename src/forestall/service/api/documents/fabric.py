"""The network between VMs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from forestall.model.mode import Mode


class FabricSwitch(BaseModel):
    """A switch."""

    name: str
    id: str = Field(description="Its datapath, hexadecimal.")
    connected: bool
    ports: int
    rules: int = Field(description="Rules of ours.")


class FabricLink(BaseModel):
    """One direction of a link."""

    name: str = Field(description="Two switches, in the direction of the traffic.")
    port: str
    up: bool
    flapping: bool = Field(description="It comes and goes, and is not used until it is steady.")
    capacity_bytes_per_s: float
    sent_bytes_per_s: float
    dropped_per_s: float
    planned_ratio: float | None = Field(description="How much of it is used as the ways are.")
    equal_ratio: float | None = Field(description="How much would be, if all shortest paths were used alike.")


class FabricInterface(BaseModel):
    """An interface of a VM."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    vm: str
    address: str
    switch: str
    port: str
    traffic_class: str | None = Field(alias="class")
    limit_bytes_per_s: float = Field(description="What it may send; 0: anything.")
    sent_bytes_per_s: float
    received_bytes_per_s: float


class FabricWay(BaseModel):
    """A path, and how much of the traffic takes it."""

    path: list[str]
    share: float


class FabricPair(BaseModel):
    """Two VMs of which one sends to the other, and the ways that it takes."""

    source: str
    target: str
    bytes_per_s: float
    ways: list[FabricWay]


class Fabric(BaseModel):
    """The network between VMs."""

    mode: Mode
    said: str = Field(description="What is wrong; empty where nothing is.")
    switches: list[FabricSwitch]
    links: list[FabricLink]
    interfaces: list[FabricInterface]
    pairs: list[FabricPair]
    changes: int = Field(description="Rules that were changed since it was started.")
    faults: dict[str, str] = Field(description="Why a switch is not as it should be, by its name.")


class FabricStep(BaseModel):
    """A change of one rule; steps come one after the other, so that no packet sees half of them."""

    step: str
    switch: str
    change: str
    rule: str = Field(description="In words of ovs-ofctl(8).")


class FabricQueues(BaseModel):
    """Queues that a port would have."""

    switch: str
    port: str
    queues: str


class FabricPlan(BaseModel):
    """What would be changed."""

    steps: list[FabricStep]
    queues: list[FabricQueues]


class FabricApplied(FabricPlan):
    """What was changed."""

    faults: dict[str, str]


class FabricUser(BaseModel):
    """Who uses a link."""

    source: str
    target: str
    share: float = Field(description="Of its traffic.")
    bytes_per_s: float
    estimated: bool = Field(description="Not counted: taken from what its interfaces send and receive.")
    ways: list[FabricWay]


class FabricLinkUse(BaseModel):
    """Who uses a link, and why."""

    link: FabricLink
    users: list[FabricUser] = Field(description="The largest first.")
    worst_planned_ratio: float
    worst_equal_ratio: float
    why: str
