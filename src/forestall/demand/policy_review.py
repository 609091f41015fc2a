"""What can be seen of a policy without any VM: contradictions, and rules that do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forestall.demand.calendar import Calendar
from forestall.demand.policy import PolicySet, Statement
from forestall.demand.policy_matching import entries_of, has_wildcard
from forestall.demand.policy_rule import ATTRIBUTES, BOUNDS, Rule
from forestall.model.applications import CATEGORIES
from forestall.model.resources import Resource

MOST_LOOKS = 200_000
"""Example VMs times calendars."""


@dataclass(frozen=True)
class Contradiction:
    """A floor above a ceiling for the same VM; ``rule`` gives one of them by ``key``, None for the defaults."""

    rule: str | None
    key: str
    what: str


def described(policy: PolicySet) -> dict[str, Any]:
    """A policy as plain values, in the words of its file: its rules in order of precedence, and its defaults."""
    rules = [
        {
            "name": rule.name,
            "priority": rule.priority,
            "matches": {kind: list(entries) for kind, entries in rule.matchers().items()},
            "calendar": None if rule.calendar is None else str(rule.calendar),
            "resources": [resource.value for resource in rule.resources],
            "sets": rule.terms.stated(),
        }
        for rule in policy.in_order()
    ]
    return {"defaults": policy.defaults.stated(), "rules": rules}


def contradictions(policy: PolicySet) -> tuple[Contradiction, ...]:
    """Find floors above ceilings that come from different rules.

    They are looked for on example VMs: each name in the policy, and for each pattern a name that it matches;
    at times at which no calendar holds or just one, as far as that takes no longer than a second or two;
    :func:`doubts` says where it would. An amount against a ratio cannot be seen without a limit.
    """
    policy = policy.tagged({f"recognised-{c}": c for c in CATEGORIES if policy.recognise_applications})
    vm_ids, resources = _examples(policy), tuple(Resource)
    limit = np.tile([1.0 if r.limit_column else np.inf for r in resources], (len(vm_ids), 1))
    found: dict[Contradiction, None] = {}
    for calendar in _calendars(policy)[: _looked_at(vm_ids)]:
        table = policy.resolve_while(calendar, vm_ids, resources, limit)
        pairs = np.stack([table.source[bound] for bound in BOUNDS]).reshape(len(BOUNDS), -1)
        _, firsts = np.unique(pairs, axis=1, return_index=True)
        for first in np.sort(firsts).tolist():
            vm, column = divmod(first, len(resources))
            floor, ceiling = (table.statement(bound, vm, column) for bound in BOUNDS)
            found |= dict.fromkeys(_contradiction(floor, ceiling, vm_ids[vm]))
    return tuple(found)


def _calendars(policy: PolicySet) -> list[Calendar | None]:
    """Every calendar of a rule, and none."""
    return list(dict.fromkeys([None, *(rule.calendar for rule in policy.rules)]))


def _looked_at(vm_ids: Sequence[str]) -> int:
    """At so many calendars."""
    return max(MOST_LOOKS // max(len(vm_ids), 1), 1)


def _contradiction(floor: Statement, ceiling: Statement, vm_id: str) -> Iterator[Contradiction]:
    if floor.key.replace("floor_", "ceiling_") != ceiling.key or floor.value <= ceiling.value:
        return
    case = f"for a VM such as {vm_id!r}"
    if ceiling.is_rule:
        yield Contradiction(
            ceiling.source, ceiling.key, f"{ceiling.key} {ceiling.value:.12g} lies below {floor} {case}"
        )
    else:
        rule = floor.source if floor.is_rule else None
        yield Contradiction(rule, floor.key, f"{floor.key} {floor.value:.12g} lies above {ceiling} {case}")


def doubts(policy: PolicySet) -> tuple[str, ...]:
    """Say, one line each, what is allowed but hardly meant: rules that never win, tags that nothing uses."""
    return (*_never_winning(policy), *_idle_tags(policy), *_not_looked_at(policy))


def _not_looked_at(policy: PolicySet) -> Iterator[str]:
    calendars, looked = len(_calendars(policy)), _looked_at(_examples(policy))
    if calendars > looked:
        yield f"contradictions were looked for at the times of {looked} calendars of {calendars}: it is very large"


def _examples(policy: PolicySet) -> tuple[str, ...]:
    """Names of VMs that the policy means, and one that it does not."""
    listed = [vm for rule in policy.rules for vm in rule.vms]
    for tags in (policy.groups, policy.applications, policy.owners):
        listed += [vm for patterns in tags.values() for vm in patterns]
    return tuple(dict.fromkeys(["any", *(_example(pattern) for pattern in listed)]))


def _example(pattern: str) -> str:
    if not has_wildcard(pattern):
        return pattern
    return re.sub(r"[*?]", "1", re.sub(r"\[([^]!])[^]]*\]", r"\1", pattern))


def _never_winning(policy: PolicySet) -> Iterator[str]:
    places: dict[str, list[int]] = {}
    for position, entry in enumerate(entries_of(policy.rules, policy.defaults)):
        places.setdefault(entry.name, []).append(position)
    for rule in policy.rules:
        others = [o for o in policy.rules if places[o.name][0] > places[rule.name][-1] and _covers(o, rule)]
        stated = [a for a in ATTRIBUTES if any(rule.terms.key(a, r) for r in rule.resources)]
        lost = {a: by for a in stated if (by := _outranked(rule, a, others)) is not None}
        if len(lost) == len(stated):
            names = ", ".join(sorted({repr(name) for name in lost.values()}))
            yield f"rule {rule.name!r} can never win: {names} always comes first"
        else:
            yield from (
                f"rule {rule.name!r}: its {a} can never win: {by!r} always comes first" for a, by in lost.items()
            )


def _outranked(rule: Rule, attribute: str, others: list[Rule]) -> str | None:
    """Name of a rule that gives ``attribute`` wherever ``rule`` would; None if there is none."""
    mine = [resource for resource in rule.resources if rule.terms.key(attribute, resource)]
    for other in others:
        has_limits = [resource.limit_column is not None for resource in mine]
        given = [other.terms.key(attribute, r, limit) for r, limit in zip(mine, has_limits, strict=True)]
        if all(key is not None and r in other.resources for key, r in zip(given, mine, strict=True)):
            return other.name
    return None


def _covers(wide: Rule, narrow: Rule) -> bool:
    """Whether ``wide`` surely matches whatever ``narrow`` matches, whenever it does."""
    if wide.calendar not in (None, narrow.calendar):
        return False
    inside = narrow.matchers()
    return all(
        all(any(_contains(kind, mine, theirs) for mine in entries) for theirs in inside.get(kind, ("",)))
        for kind, entries in wide.matchers().items()
    )


def _contains(kind: str, wide: str, narrow: str) -> bool:
    """Whether a name or pattern means every VM that the other means; only patterns as ``web-*`` are seen through."""
    if wide == narrow:
        return True
    prefix = wide.removesuffix("*")
    return kind == "vms" and wide.endswith("*") and not has_wildcard(prefix) and narrow.startswith(prefix)


def _idle_tags(policy: PolicySet) -> Iterator[str]:
    for kind in ("groups", "applications", "owners"):
        used = {tag for rule in policy.rules for tag in rule.matchers().get(kind, ())}
        for tag, patterns in getattr(policy, kind).items():
            if tag not in used:
                yield f"[{kind}]: no rule uses {tag!r}"
            elif not patterns and not (policy.recognise_applications and kind == "applications" and tag in CATEGORIES):
                yield f"[{kind}]: {tag!r} is empty, so that it matches no VM"
