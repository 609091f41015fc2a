"""Policies: what an operator wants for which VMs, and when.

A policy is a list of rules. For each attribute (weight, floor, ceiling, violation budget, anomaly ceiling) of
each VM and resource **separately**, of all the rules that match and set it, one wins:

1. the one with the highest ``priority``;
2. then the more specific: VM by its name > VM by a pattern > group > application or owner > every VM;
3. then one with a calendar over one without;
4. then the one that stands later in the file.

Then the amounts are fitted: a floor above the limit is held at the limit, a ceiling above the limit too, and a
ceiling below the floor is raised to the floor, for the floor is a promise to the VM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from forestall.demand.calendar import Calendar
from forestall.demand.policy_matching import Matching, NameSet, has_wildcard
from forestall.demand.policy_rule import ATTRIBUTES, BUILT_IN, Rule, Terms
from forestall.demand.policy_table import PolicyTable, Statement, tabulate
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray

__all__ = ["ATTRIBUTES", "BUILT_IN", "PolicySet", "PolicyTable", "Rule", "Statement", "Terms"]

LEAST_VMS_ACROSS = 10
"""What crosses the border of a trust group is a mean over at least so many VMs."""

Tags = Mapping[str, tuple[str, ...]]
"""VM names and patterns for each tag."""


@dataclass(frozen=True)
class PolicySet:
    """All the rules of an operator.

    Attributes
    ----------
    rules
        In the order of the file.
    groups, applications, owners
        The tags that rules match: names and patterns of the VMs that have each.
    trust_groups
        Names and patterns of the VMs of each trust group; of groups that both mean a VM the first has it.
    trust_members
        Trust group of VMs that an operator has put into one while the system runs, by name; counts first.
    models_across_trust_groups
        Whether recurrent models may be trained on the VMs of several groups together, once they are enough.
    recognise_applications
        Probability from which a VM that is in no list of ``applications`` counts as what it is recognised as; None: it
        never does. What runs in a VM is the guest's own doing: whoever sets this lets guests choose among the rules.
    borrowers, lenders
        Names and patterns of the VMs that run on cores which others do not use at the moment, and of those others. A
        VM that is in both lists borrows.
    defaults
        What holds where no rule sets something; :data:`BUILT_IN` where these say nothing either.

    Examples
    --------
    >>> import numpy as np
    >>> policy = PolicySet((Rule("databases", Terms(weight=3.0, floor_ratio=0.5), vms=("db-*",)),))
    >>> table = policy.resolve(("db-1", "web-1"), (Resource.CPU,), np.array([[8.0], [4.0]]), now=0)
    >>> table.weight[:, 0].tolist(), table.floor[:, 0].tolist(), table.names
    ([3.0, 1.0], [4.0, 0.0], (('databases',), ()))
    """

    rules: tuple[Rule, ...] = ()
    groups: Tags = field(default_factory=dict)
    applications: Tags = field(default_factory=dict)
    owners: Tags = field(default_factory=dict)
    trust_groups: Tags = field(default_factory=dict)
    trust_members: Mapping[str, str] = field(default_factory=dict)
    models_across_trust_groups: bool = False
    recognise_applications: float | None = None
    borrowers: tuple[str, ...] = ()
    lenders: tuple[str, ...] = ("*",)
    defaults: Terms = field(default_factory=Terms)

    def recognising(self, applications: Mapping[str, str]) -> dict[str, str]:
        """Of VMs that were recognised, those that rules take for that: no word of the operator's says what they run."""
        if self.recognise_applications is None:
            return {}
        stated = [NameSet(vms) for vms in self.applications.values()]
        return {
            vm_id: application
            for vm_id, application in applications.items()
            if not has_wildcard(vm_id) and not any(vm_id in vms for vms in stated)
        }

    def tagged(self, recognised: Mapping[str, str]) -> PolicySet:
        """The same, with applications that were recognised."""
        if not recognised:
            return self
        tags = {name: tuple(vms) for name, vms in self.applications.items()}
        for vm_id, application in recognised.items():
            tags[application] = (*tags.get(application, ()), vm_id)
        return replace(self, applications=tags)

    def resolve(
        self,
        vm_ids: tuple[str, ...],
        resources: tuple[Resource, ...],
        limit: FloatArray,
        now: int,
        *,
        calendar: bool = True,
    ) -> PolicyTable:
        """Say what holds for each VM at one instant.

        Quick when ``vm_ids`` is the roster of the last call with VMs appended: only these are matched, and
        winners are decided anew only when a calendar window opened or closed.

        Parameters
        ----------
        vm_ids
            The roster, axis 0.
        resources
            Axis 1.
        limit
            Array (vm, resource), >= 0; inf where there is none, NaN where it is not known yet.
        now
            Instant, seconds UTC.
        calendar
            Whether ``now`` is a real date; if not, rules with a calendar never match.
        """
        return self._tabulate(vm_ids, resources, limit, self._matching.active(now, calendar))

    def resolve_while(
        self, calendar: Calendar | None, vm_ids: tuple[str, ...], resources: tuple[Resource, ...], limit: FloatArray
    ) -> PolicyTable:
        """Say what holds while of all the calendars only this one does (None: none does)."""
        active = tuple(entry.calendar in (None, calendar) for entry in self._matching.entries)
        return self._tabulate(vm_ids, resources, limit, active)

    def in_order(self) -> tuple[Rule, ...]:
        """The rules in order of precedence, highest first; one that names VMs and has patterns stands at the names."""
        entries = reversed(self._matching.entries)
        return tuple({entry.name: entry.rule for entry in entries if entry.rule is not None}.values())

    def without_calendar(self) -> str | None:
        """Warn, in one line, that rules never match where instants are not real dates; None if there are none."""
        names = [repr(rule.name) for rule in self.rules if rule.calendar is not None]
        if not names:
            return None
        rules = f"rule{'s' * (len(names) > 1)} {', '.join(names)}"
        return f"the calendar is hidden, so that the windows of {rules} never match"

    def runs(self, vm_ids: tuple[str, ...], applications: tuple[str, ...]) -> BoolArray:
        """Which of ``applications`` each VM is said to run (vm, application)."""
        sets = [NameSet(self.applications.get(name, ())) for name in applications]
        found = [[vm_id in names for names in sets] for vm_id in vm_ids]
        return np.array(found, dtype=bool).reshape(len(vm_ids), len(applications))

    def trust(self, vm_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Name of each VM's trust group; empty for those that are in none."""
        sets = {name: NameSet(patterns) for name, patterns in self.trust_groups.items()}
        stated = self.trust_members
        return tuple(
            stated.get(vm_id) or next((name for name, vms in sets.items() if vm_id in vms), "") for vm_id in vm_ids
        )

    def borrowing(self, vm_ids: tuple[str, ...]) -> BoolArray:
        """Which VMs run on cores that are lent (vm,)."""
        names = NameSet(self.borrowers)
        return np.array([vm_id in names for vm_id in vm_ids], dtype=bool)

    def lending(self, vm_ids: tuple[str, ...]) -> BoolArray:
        """Which VMs lend the cores that they do not use (vm,)."""
        names = NameSet(self.lenders)
        return np.array([vm_id in names for vm_id in vm_ids], dtype=bool) & ~self.borrowing(vm_ids)

    def apart(self, vm_ids: tuple[str, ...]) -> str:
        """Why no recurrent model may be trained on these VMs together; empty if one may."""
        groups = len(set(self.trust(vm_ids)))
        if groups < 2:
            return ""
        if not self.models_across_trust_groups:
            return f"the VMs are of {groups} trust groups, and models_across_trust_groups is not set"
        if len(vm_ids) < LEAST_VMS_ACROSS:
            return f"models across trust groups need {LEAST_VMS_ACROSS} VMs, and there are {len(vm_ids)}"
        return ""

    @property
    def holds_anomalous(self) -> bool:
        """Whether anything holds VMs that behave anomalously to a lower ceiling."""
        terms = (self.defaults, *(rule.terms for rule in self.rules))
        return any((t.anomaly_ceiling_ratio or 1.0) < 1.0 for t in terms)

    @cached_property
    def _matching(self) -> Matching:
        tags = {"groups": self.groups, "applications": self.applications, "owners": self.owners}
        return Matching(self.rules, self.defaults, tags)

    def _tabulate(
        self, vm_ids: tuple[str, ...], resources: tuple[Resource, ...], limit: FloatArray, active: tuple[bool, ...]
    ) -> PolicyTable:
        winners = self._matching.winners(vm_ids, resources, active)
        return tabulate(vm_ids, resources, limit, winners, self._matching.values(resources), self._matching.entries)
