"""What the API gives, part by part. Amounts are in the unit of their resource; null where nothing is known."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from forestall.model.decision import Result, Ruling
from forestall.model.forecast import Statistic
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.job_book import Job as PortJob
from forestall.ports.job_book import JobState
from forestall.ports.token_book import Role
from forestall.service.preallocation import State

Item = TypeVar("Item")


def _whole(given: object) -> object:
    """JSON has numbers only: 50.0 is 50."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


AS_WHOLE = BeforeValidator(_whole)


class Page(BaseModel, Generic[Item]):
    """A part of a list, in the order of its names."""

    items: list[Item]
    next: str | None = Field(description="Give it as `after` for the next part; null: this is the last.")


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


class TrustGroup(BaseModel):
    """VMs that may learn from each other, and that are staged for together."""

    group: str
    members: list[str] = Field(description="Who was put into it.")
    by_policy: bool = Field(description="Whether the policy file names it.")
    vms: list[str] = Field(description="Who is in it and runs.")
    shadowing: bool
    horizon_seconds: float | None


class PolicyVersion(BaseModel):
    """A version of the policies."""

    number: int = Field(description="0: there was none yet.")
    at: float = Field(description="Since when, seconds UTC.")
    origin: Literal["file", "applied"] = Field(description="From the file that the configuration names, or applied.")
    by: str = Field(description="Which file, or who.")
    comment: str
    digest: str = Field(description="SHA-256 of its text, hexadecimal.")


class Policy(PolicyVersion):
    """A version of the policies, with its text."""

    text: str = Field(description="TOML; docs/policy.md says what may stand in it.")


Text = Annotated[str, Field(max_length=1 << 20, description="TOML; docs/policy.md says what may stand in it.")]


class NewPolicy(BaseModel):
    """A policy to be put in force."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text
    comment: str = Field("", max_length=500, description="Why; it is kept with the version.")


class DraftPolicy(BaseModel):
    """A policy to be looked at."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text


class Rule(BaseModel):
    """A rule, as it was understood."""

    name: str
    priority: int
    matches: dict[str, list[str]] = Field(description="Patterns by what they are matched with; none: every VM.")
    calendar: str | None = Field(description="When it holds; null: always.")
    resources: list[Resource]
    sets: dict[str, float]


class CheckedPolicy(BaseModel):
    """What a policy says."""

    rules: list[Rule] = Field(description="In order of precedence, the highest first.")
    defaults: dict[str, float]
    warnings: list[str] = Field(description="What is probably not meant.")


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


class Model(BaseModel):
    """A version of the model of a resource."""

    resource: Resource
    version: str = Field(description="shipped: it comes with Forestall.")
    at: int | None = Field(description="When it took over, or was refused, seconds.")
    state: str = Field(description="in use, refused, damaged, or empty: it was in use.")
    reason: str
    trained_on: str
    scores: dict[str, float]


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


class NewTrustGroup(BaseModel):
    """A trust group to be made."""

    model_config = ConfigDict(extra="forbid", strict=True)

    group: str = Field(min_length=1, max_length=128, pattern="^[^/]*$")


class TrustGroupChange(BaseModel):
    """What is to be changed of a trust group; null: nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    shadowing: bool | None = None
    horizon_seconds: float | None = Field(None, ge=0.1, le=86_400.0, allow_inf_nan=False)


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
