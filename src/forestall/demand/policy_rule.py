"""What an operator says about VMs: terms, and rules that give terms to some VMs at some times."""

from __future__ import annotations

from dataclasses import dataclass, fields

from forestall.demand.calendar import Calendar
from forestall.model.resources import Resource

ATTRIBUTES = ("weight", "floor", "ceiling", "violation_budget", "anomaly_ceiling_ratio")
"""What terms can set; each is decided by itself when several rules match."""

BOUNDS = ("floor", "ceiling")
"""The attributes that are said either as an amount (``floor_cores``) or as a ratio of the limit."""


@dataclass(frozen=True)
class Terms:
    """What is set; None leaves it to other rules. The fields are named as the keys of a policy file.

    Attributes
    ----------
    weight
        Above 0: how much a shortfall of this VM counts against another's.
    floor_cores, floor_bytes, floor_bytes_per_s, floor_ratio
        The VM never holds less than this: CPU, memory, disk and network, or a share of the limit of each.
    ceiling_cores, ceiling_bytes, ceiling_bytes_per_s, ceiling_ratio
        The VM never holds more than this.
    violation_budget
        Share of its intervals in which demand may exceed the allocation, above 0 and below 0.5.
    anomaly_ceiling_ratio
        Share of the limit that is the ceiling while the VM behaves anomalously.
    """

    weight: float | None = None
    floor_cores: float | None = None
    floor_bytes: float | None = None
    floor_bytes_per_s: float | None = None
    floor_ratio: float | None = None
    ceiling_cores: float | None = None
    ceiling_bytes: float | None = None
    ceiling_bytes_per_s: float | None = None
    ceiling_ratio: float | None = None
    violation_budget: float | None = None
    anomaly_ceiling_ratio: float | None = None

    def stated(self) -> dict[str, float]:
        """The keys that are set, with their values."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def value(self, key: str) -> float | None:
        """The value of one key."""
        value: float | None = getattr(self, key)
        return value

    def key(self, attribute: str, resource: Resource, has_limit: bool = True) -> str | None:
        """The key by which ``attribute`` of ``resource`` is set here; None if it is not.

        A ratio comes before an amount, but says nothing about a resource without a limit.
        """
        if attribute not in BOUNDS:
            candidates = [attribute]
        else:
            candidates = [f"{attribute}_ratio"] * has_limit + [f"{attribute}_{resource.unit}"]
        return next((key for key in candidates if self.value(key) is not None), None)


BUILT_IN = Terms(
    weight=1.0,
    floor_cores=0.0,
    floor_bytes=0.0,
    floor_bytes_per_s=0.0,
    floor_ratio=0.0,
    ceiling_cores=float("inf"),
    ceiling_bytes=float("inf"),
    ceiling_bytes_per_s=float("inf"),
    ceiling_ratio=1.0,
    violation_budget=0.01,
    anomaly_ceiling_ratio=1.0,
)
"""What holds where a policy says nothing: everything up to the limit, one interval in a hundred short."""


@dataclass(frozen=True)
class Rule:
    """Gives ``terms`` to the VMs that it matches, while its calendar holds.

    A VM must match every matcher that is given (``vms``, ``groups``, ``applications``, ``owners``), each by
    at least one of its entries; a rule without any matches every VM.

    Attributes
    ----------
    name
        Names the rule in decisions and explanations; unique in a policy.
    terms
        What the rule sets.
    priority
        The higher wins.
    vms
        Names of VMs, or patterns with ``*``, ``?`` and ``[...]``; case matters.
    groups, applications, owners
        Tags that the policy gives to VMs.
    calendar
        When the rule holds; None for always.
    resources
        The resources that the terms are for.
    """

    name: str
    terms: Terms
    priority: int = 0
    vms: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    calendar: Calendar | None = None
    resources: tuple[Resource, ...] = tuple(Resource)

    def matchers(self) -> dict[str, tuple[str, ...]]:
        """The matchers that are given: ``vms``, ``groups``, ``applications``, ``owners``."""
        kinds = {"vms": self.vms, "groups": self.groups, "applications": self.applications, "owners": self.owners}
        return {kind: entries for kind, entries in kinds.items() if entries}
