"""What a policy says at one step, for every VM and resource."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forestall.demand.policy_matching import LAYERS, Entry, WinnerArray
from forestall.demand.policy_rule import ATTRIBUTES
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray


@dataclass(frozen=True)
class Statement:
    """One value, and where it comes from: ``key = value`` of the rule ``source``."""

    key: str
    value: float
    source: str
    is_rule: bool

    def __str__(self) -> str:
        """``floor_cores 2 of rule 'database'``."""
        return f"{self.key} {self.value:.12g} of {f'rule {self.source!r}' if self.is_rule else self.source}"


@dataclass(frozen=True)
class PolicyTable:
    """A policy resolved for a roster at one instant; arrays have the axes (vm, resource).

    Always ``floor <= ceiling <= limit``. The limit wins over everything, the floor over the ceiling.

    Attributes
    ----------
    weight, budget
        Weight in the division of the pool, and the violation budget.
    floor, ceiling
        In the resource's unit. Without a limit (inf) or before it is known (NaN) ratios say nothing.
    anomaly_ceiling
        The ceiling while the VM behaves anomalously; between floor and ceiling.
    asked_floor, asked_ceiling
        What the policy says before it is fitted to limit and floor.
    limit
        What was given, NaN replaced by inf.
    source
        For each of :data:`ATTRIBUTES` the position in ``entries`` of what set it.
    entries
        Everything that can give a value, lowest precedence first.
    """

    vm_ids: tuple[str, ...]
    resources: tuple[Resource, ...]
    weight: FloatArray
    floor: FloatArray
    ceiling: FloatArray
    budget: FloatArray
    anomaly_ceiling: FloatArray
    asked_floor: FloatArray
    asked_ceiling: FloatArray
    limit: FloatArray
    source: Mapping[str, WinnerArray]
    entries: tuple[Entry, ...]

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """For each VM the rules that gave it at least one value, highest precedence first."""
        return self._names(np.concatenate([self.source[a] for a in ATTRIBUTES], axis=1))

    def names_for(self, resource: Resource) -> tuple[tuple[str, ...], ...]:
        """For each VM the rules that gave it a value for ``resource``, highest precedence first."""
        column = self.resources.index(resource)
        return self._names(np.stack([self.source[a][:, column] for a in ATTRIBUTES], axis=1))

    @property
    def clipped(self) -> BoolArray:
        """Where floor or ceiling are not what was asked for; :meth:`reasons` says why."""
        moved: BoolArray = np.isfinite(self.asked_ceiling) & (self.ceiling != self.asked_ceiling)
        return np.asarray(moved | (self.asked_floor > self.floor), dtype=bool)

    def statement(self, attribute: str, vm: int, resource: int) -> Statement:
        """Say which rule gives ``attribute`` to the VM and resource at these positions, and by which key."""
        entry = self.entries[self.source[attribute][vm, resource]]
        key = entry.terms.key(attribute, self.resources[resource], bool(np.isfinite(self.limit[vm, resource])))
        assert key is not None
        return Statement(key, entry.terms.value(key) or 0.0, entry.name, entry.rule is not None)

    def reasons(self, vm: int, resource: int) -> tuple[str, ...]:
        """Say why floor and ceiling of the VM and resource at these positions are not what was asked for."""
        at, said = (vm, resource), []
        limit, floor = self.limit[at], self.floor[at]
        asked_floor, asked_ceiling = self.asked_floor[at], self.asked_ceiling[at]
        if asked_floor > limit:
            said.append(f"{self.statement('floor', *at)} is above the limit {limit:.12g}: held at the limit")
        if asked_ceiling < floor:
            said.append(f"{self.statement('ceiling', *at)} is below the floor {floor:.12g}: raised to the floor")
        elif limit < asked_ceiling < np.inf:
            said.append(f"{self.statement('ceiling', *at)} is above the limit {limit:.12g}: held at the limit")
        return tuple(said)

    def _names(self, positions: WinnerArray) -> tuple[tuple[str, ...], ...]:
        """Names of the rules at ``positions`` (vm, any); few rows differ, so each kind of row is done once."""
        done: dict[bytes, tuple[str, ...]] = {}
        keys = [row.tobytes() for row in positions]
        for key in set(keys):
            ordered = sorted(set(np.frombuffer(key, dtype=positions.dtype).tolist()), reverse=True)
            rules = [self.entries[position] for position in ordered]
            done[key] = tuple(dict.fromkeys(entry.name for entry in rules if entry.rule is not None))
        return tuple(done[key] for key in keys)


def tabulate(
    vm_ids: tuple[str, ...],
    resources: tuple[Resource, ...],
    limit: FloatArray,
    winners: WinnerArray,
    values: FloatArray,
    entries: tuple[Entry, ...],
) -> PolicyTable:
    """Turn winners (layer, vm, resource) and values (layer, entry, resource) into amounts within ``limit``."""
    won = dict(zip(LAYERS, winners, strict=True))
    column = np.arange(len(resources))
    value = {name: values[layer][won[name], column] for layer, name in enumerate(LAYERS)}
    known = np.isfinite(limit)
    cap, scale = np.where(np.isnan(limit), np.inf, limit), np.where(known, limit, 0.0)
    asked: dict[str, FloatArray] = {}
    source = {name: won[name] for name in ("weight", "violation_budget", "anomaly_ceiling_ratio")}
    for bound in ("floor", "ceiling"):
        by_ratio = known & (won[f"{bound}_ratio"] >= won[bound])
        asked[bound] = np.where(by_ratio, value[f"{bound}_ratio"] * scale, value[bound])
        source[bound] = np.where(by_ratio, won[f"{bound}_ratio"], won[bound])
    floor = np.minimum(asked["floor"], cap)
    ceiling = np.maximum(np.minimum(asked["ceiling"], cap), floor)
    anomaly = np.where(known, value["anomaly_ceiling_ratio"] * scale, np.inf)
    return PolicyTable(
        vm_ids=vm_ids,
        resources=resources,
        weight=value["weight"],
        floor=floor,
        ceiling=ceiling,
        budget=value["violation_budget"],
        anomaly_ceiling=np.clip(anomaly, floor, ceiling),
        asked_floor=asked["floor"],
        asked_ceiling=asked["ceiling"],
        limit=cap,
        source=source,
        entries=entries,
    )
