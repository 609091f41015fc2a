"""How the live loop is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from forestall.demand.arbiter import ArbiterSettings
from forestall.demand.censoring import DEFAULTS, CensoringSettings
from forestall.demand.health import HealthSettings
from forestall.demand.settings import DemandSettings
from forestall.demand.warming import WarmingSettings
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.hypervisor import Inventory


@dataclass(frozen=True)
class Pool:
    """What of a host's resource is shared: kept back for the host itself, and how much is promised for each unit."""

    reserved: float = 0.0
    allocation_ratio: float = 1.0

    def of(self, inventory: Inventory) -> Inventory:
        """The inventory with what is kept back; what the host itself keeps back counts where it is more."""
        ratio = self.allocation_ratio if self.allocation_ratio != 1.0 else inventory.allocation_ratio
        return replace(inventory, reserved=max(inventory.reserved, self.reserved), allocation_ratio=ratio)


@dataclass(frozen=True)
class DriverSettings:
    """Settings of the live loop.

    Attributes
    ----------
    demand
        Of the decision core; its first budget is the one that is acted on.
    mode
        How far to go.
    resources
        What is decided about.
    lease_seconds
        A change that is not renewed for so long is taken back.
    pools
        What is kept back and promised, by resource.
    censoring
        When a sample counts as seen at the cap, by resource.
    most_caught_up_rows
        Intervals without an observation that are decided on anew; more of them are only counted.
    repeat_seconds
        How often a decision that stays the same is recorded again.
    retire_seconds, retire_at_least
        VMs that have not run for so long are forgotten by the learner, once there are so many of them; one that comes
        back is as one that was never seen.
    """

    demand: DemandSettings
    health: HealthSettings
    mode: Mode = Mode.ADVISE
    resources: tuple[Resource, ...] = (Resource.CPU, Resource.MEMORY)
    lease_seconds: float = 60.0
    arbiter: ArbiterSettings = field(default_factory=ArbiterSettings)
    pools: Mapping[Resource, Pool] = field(default_factory=dict)
    censoring: Mapping[Resource, CensoringSettings] = field(default_factory=lambda: DEFAULTS)
    warming: WarmingSettings = field(default_factory=WarmingSettings)
    most_caught_up_rows: int = 30
    repeat_seconds: int = 300
    retire_seconds: int = 86_400
    retire_at_least: int = 32
