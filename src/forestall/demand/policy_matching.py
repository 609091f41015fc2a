"""Which rule gives which value to which VM.

Rules are laid out as *entries* in order of precedence, lowest first; for each value the last entry that
matches wins. The order is: priority; then how specific the match is (VM by its name > VM by a pattern > group
> application or owner > every VM); then a calendar before none; then the place in the file, the later first.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forestall.demand.calendar import Calendar
from forestall.demand.policy_rule import BOUNDS, BUILT_IN, Rule, Terms
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray

WinnerArray = NDArray[np.int16]

LAYERS = ("weight", "floor", "floor_ratio", "ceiling", "ceiling_ratio", "violation_budget", "anomaly_ceiling_ratio")
"""What is decided for each VM and resource; a bound as an amount and as a ratio apart, for not every VM has a limit."""

BUILT_IN_ENTRY = 0
"""Position of the built-in terms among the entries."""

_BY_NAME, _BY_PATTERN, _BY_GROUP, _BY_TAG, _EVERY = 4, 3, 2, 1, 0


class NameSet:
    """The VMs that a list of names and patterns means."""

    def __init__(self, patterns: Iterable[str]) -> None:
        listed = tuple(patterns)
        globs = [pattern for pattern in listed if has_wildcard(pattern)]
        self.exact = frozenset(listed) - frozenset(globs)
        self._pattern = re.compile("|".join(fnmatch.translate(glob) for glob in globs)) if globs else None

    def __contains__(self, vm_id: str) -> bool:
        """Whether the VM is meant."""
        return vm_id in self.exact or (self._pattern is not None and self._pattern.match(vm_id) is not None)


def has_wildcard(pattern: str) -> bool:
    """Whether ``pattern`` can mean several VMs."""
    return any(character in pattern for character in "*?[")


@dataclass(frozen=True)
class Entry:
    """A place in the order of precedence.

    Attributes
    ----------
    name
        Of the rule, or what else gives the terms.
    rule
        None for the defaults and what is built in.
    by_name
        Whether it stands for the VMs that the rule names, or for the others that it matches.
    """

    name: str
    terms: Terms
    rule: Rule | None = None
    by_name: bool = False

    @property
    def calendar(self) -> Calendar | None:
        """When the entry holds; None for always."""
        return self.rule.calendar if self.rule else None

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Priority, how specific the match is, and whether there is a calendar."""
        rule = self.rule
        assert rule is not None
        if rule.vms:
            specific = _BY_NAME if self.by_name else _BY_PATTERN
        elif rule.groups:
            specific = _BY_GROUP
        else:
            specific = _BY_TAG if rule.applications or rule.owners else _EVERY
        return rule.priority, specific, rule.calendar is not None

    def values(self, resource: Resource) -> list[float]:
        """The value of each of :data:`LAYERS` for ``resource``; NaN where the entry says nothing."""
        if self.rule is not None and resource not in self.rule.resources:
            return [float("nan")] * len(LAYERS)
        keys = (f"{layer}_{resource.unit}" if layer in BOUNDS else layer for layer in LAYERS)
        return [float("nan") if (value := self.terms.value(key)) is None else value for key in keys]


def entries_of(rules: Sequence[Rule], defaults: Terms) -> tuple[Entry, ...]:
    """Everything that can give a value, lowest precedence first; the built-in terms are the first."""
    placed = []
    for rule in rules:
        names = any(not has_wildcard(vm) for vm in rule.vms)
        others = not rule.vms or any(has_wildcard(vm) for vm in rule.vms)
        placed += [Entry(rule.name, rule.terms, rule, by_name=False)] * others
        placed += [Entry(rule.name, rule.terms, rule, by_name=True)] * names
    return (Entry("built in", BUILT_IN), Entry("defaults", defaults), *sorted(placed, key=lambda e: e.rank))


@dataclass(frozen=True)
class _Known:
    """What has been found out about a roster: matches (entry, vm) and winners (layer, vm, resource)."""

    vm_ids: tuple[str, ...]
    matched: BoolArray
    resources: tuple[Resource, ...]
    active: tuple[bool, ...]
    winners: WinnerArray


class Matching:
    """The entries of a policy, matched against a roster of VMs that grows at its end.

    What was found out about the VMs of the last call is kept; the answer never depends on earlier calls.

    Parameters
    ----------
    rules, defaults
        The policy's.
    tags
        For ``groups``, ``applications`` and ``owners``: the VM names and patterns that each tag stands for.
    """

    def __init__(
        self, rules: Sequence[Rule], defaults: Terms, tags: Mapping[str, Mapping[str, tuple[str, ...]]]
    ) -> None:
        self.entries = entries_of(rules, defaults)
        self._sets = tuple(_matcher(entry.rule, tags) if entry.rule else () for entry in self.entries)
        self._calendars = tuple({entry.calendar for entry in self.entries} - {None})
        self._values: dict[tuple[Resource, ...], FloatArray] = {}
        self._known: _Known | None = None

    def active(self, now: int, calendar: bool) -> tuple[bool, ...]:
        """Which entries hold at ``now``; without ``calendar`` only those that always do."""
        held = {c for c in self._calendars if calendar and c is not None and c.holds_at(now)}
        return tuple(entry.calendar is None or entry.calendar in held for entry in self.entries)

    def winners(
        self, vm_ids: tuple[str, ...], resources: tuple[Resource, ...], active: tuple[bool, ...]
    ) -> WinnerArray:
        """Position (layer, vm, resource) in ``entries`` of what gives each value."""
        known, old = self._known, 0
        if known is not None and vm_ids[: len(known.vm_ids)] == known.vm_ids:
            old = len(known.vm_ids)
        fresh = self._match(vm_ids[old:])
        matched = fresh if known is None or not old else np.concatenate([known.matched, fresh], axis=1)
        if known is not None and old and (known.resources, known.active) == (resources, active):
            tail = self._decide(fresh, resources, active)
            winners = np.concatenate([known.winners, tail], axis=1) if tail.shape[1] else known.winners
        else:
            winners = self._decide(matched, resources, active)
        self._known = _Known(vm_ids, matched, resources, active, winners)
        return winners

    def values(self, resources: tuple[Resource, ...]) -> FloatArray:
        """Value (layer, entry, resource) that each entry gives; NaN where it gives none."""
        if resources not in self._values:
            rows = [[entry.values(resource) for resource in resources] for entry in self.entries]
            shape = len(self.entries), len(resources), len(LAYERS)
            self._values[resources] = np.array(rows, dtype=float).reshape(shape).transpose(2, 0, 1)
        return self._values[resources]

    def _match(self, vm_ids: tuple[str, ...]) -> BoolArray:
        matched = np.ones((len(self.entries), len(vm_ids)), dtype=bool)
        for position, entry in enumerate(self.entries):
            if entry.rule is not None:
                sets, named = self._sets[position], NameSet(entry.rule.vms).exact
                matched[position] = [
                    (vm in named) == entry.by_name and all(vm in names for names in sets) for vm in vm_ids
                ]
        return matched

    def _decide(self, matched: BoolArray, resources: tuple[Resource, ...], active: tuple[bool, ...]) -> WinnerArray:
        winners = np.zeros((len(LAYERS), matched.shape[1], len(resources)), dtype=np.int16)
        given = ~np.isnan(self.values(resources))
        for position in np.flatnonzero(active):
            layer, column = np.nonzero(given[:, position, :])
            rows = np.flatnonzero(matched[position])
            winners[layer[:, None], rows[None, :], column[:, None]] = position
        return winners


def _matcher(rule: Rule, tags: Mapping[str, Mapping[str, tuple[str, ...]]]) -> tuple[NameSet, ...]:
    """One set for each matcher that is given; a VM must be in all of them."""
    return tuple(
        NameSet(entries if kind == "vms" else (vm for tag in entries for vm in tags[kind].get(tag, ())))
        for kind, entries in rule.matchers().items()
    )
