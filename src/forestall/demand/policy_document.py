"""From the document of a policy file (what a TOML parser returns) to a :class:`PolicySet`, strictly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from typing import Any

from forestall.demand import policy_values as read
from forestall.demand.calendar import Calendar
from forestall.demand.policy import PolicySet, Rule, Terms
from forestall.demand.policy_reading import Place, PolicyProblem, read_table, read_values, refuse_unknown
from forestall.demand.policy_review import contradictions
from forestall.demand.policy_rule import BOUNDS
from forestall.model.applications import CATEGORIES
from forestall.model.resources import Resource

MOST_RULES = 1000
TAG_TABLES = ("groups", "applications", "owners")
TRUST_TABLE, ACROSS = "trust_groups", "models_across_trust_groups"
RECOGNISE = "recognise_applications"
BURST_TABLE = "burst"
TERM_KEYS: dict[str, read.Reader] = {
    "weight": read.number(0),
    "floor_cores": read.number(0, low_too=True),
    "floor_bytes": read.number(0, low_too=True),
    "floor_bytes_per_s": read.number(0, low_too=True),
    "floor_ratio": read.number(0, 1, low_too=True),
    "ceiling_cores": read.number(0),
    "ceiling_bytes": read.number(0),
    "ceiling_bytes_per_s": read.number(0),
    "ceiling_ratio": read.number(0, 1),
    "violation_budget": read.number(0, 0.5, high_too=False),
    "anomaly_ceiling_ratio": read.number(0, 1),
}
RULE_KEYS = ("name", "priority", "vms", *TAG_TABLES, "resources", "calendar", *TERM_KEYS)
CALENDAR_KEYS = ("time_zone", "weekdays", "times", "dates", "except_dates", "holidays", "except_holidays")
DEFAULTS = Place("defaults", words="[defaults]")
FILE_KEYS = ("time_zone", "defaults", *TAG_TABLES, TRUST_TABLE, ACROSS, RECOGNISE, BURST_TABLE, "holidays", "rule")


def read_document(document: Mapping[str, Any], find_zone: Callable[[str], tzinfo]) -> PolicySet:
    """Read a policy document.

    Parameters
    ----------
    document
        Tables and values as TOML has them.
    find_zone
        Returns the time zone of an IANA name; ``ValueError`` says what is wrong with the name.

    Raises
    ------
    PolicyProblem
        Unknown key, wrong type, impossible value, or a contradiction that can be seen without any VM.
    """
    refuse_unknown(document, FILE_KEYS, Place(""))
    zone_reader = read.zone(find_zone)
    readers: dict[str, read.Reader] = {"time_zone": zone_reader, ACROSS: read.flag, RECOGNISE: read.number(0.5, 1)}
    plain = read_values(document, readers, Place(""))
    default_zone = plain.get("time_zone", UTC)
    tags: dict[str, Any] = {kind: _named_lists(document, kind, read.text) for kind in TAG_TABLES}
    calendars = _CalendarReader(zone_reader, default_zone, _named_lists(document, "holidays", read.date_range))
    defaults = Terms(**read_table(document.get("defaults", {}), TERM_KEYS, DEFAULTS))
    _check_terms(defaults, tuple(Resource), DEFAULTS)
    trust_groups = _named_lists(document, TRUST_TABLE, read.text)
    _check_trust(trust_groups)
    known = tags | {"applications": [*tags["applications"], *(CATEGORIES if RECOGNISE in plain else ())]}
    rules = _rules(document.get("rule", []), known, calendars)
    patterns = read.several(read.text, may_be_empty=True)
    burst = read_table(
        document.get(BURST_TABLE, {}), {"borrowers": patterns, "lenders": patterns}, Place(BURST_TABLE, words="[burst]")
    )
    policy = PolicySet(
        rules,
        **tags,
        **burst,
        trust_groups=trust_groups,
        models_across_trust_groups=plain.get(ACROSS, False),
        recognise_applications=plain.get(RECOGNISE),
        defaults=defaults,
    )
    for contradiction in contradictions(policy):
        names = [rule.name for rule in policy.rules]
        name = contradiction.rule
        place = DEFAULTS if name is None else _rule_place(names.index(name), name)
        raise PolicyProblem(contradiction.what, replace(place, key=contradiction.key))
    return policy


@dataclass(frozen=True)
class _CalendarReader:
    """Reads the calendar of a rule, with what the rest of the file says about zones and holidays."""

    zone_reader: read.Reader
    default_zone: tzinfo
    holidays: Mapping[str, tuple[Any, ...]]

    def read(self, table: object, place: Place) -> Calendar:
        ranges, names = read.several(read.date_range), read.several(read.one_of(self.holidays, "list of [holidays]"))
        found = read_table(
            table,
            {
                "time_zone": self.zone_reader,
                "weekdays": read.weekdays,
                "times": read.several(read.time_range),
                "dates": ranges,
                "except_dates": ranges,
                "holidays": names,
                "except_holidays": names,
            },
            place,
        )
        if not found.keys() - {"time_zone"}:
            raise PolicyProblem("is empty; leave it out for a rule that always holds", place)
        dates, excepted = (
            (*found.get(f"{kind}dates", ()), *(d for n in found.get(f"{kind}holidays", ()) for d in self.holidays[n]))
            for kind in ("", "except_")
        )
        zone = found.get("time_zone", self.default_zone)
        calendar = Calendar(zone, found.get("weekdays", frozenset()), found.get("times", ()), dates, excepted)
        if not calendar.ever_holds() or ("holidays" in found and not dates):
            raise PolicyProblem("never holds: there is no day that meets all its conditions", place)
        return calendar


def _rules(tables: object, tags: Mapping[str, Collection[str]], calendars: _CalendarReader) -> tuple[Rule, ...]:
    if not isinstance(tables, list):
        raise PolicyProblem("rules are written as [[rule]], with two brackets", Place("rule"))
    if len(tables) > MOST_RULES:
        raise PolicyProblem(f"has {len(tables)} rules, at most {MOST_RULES} are taken", Place("rule", MOST_RULES))
    rules = tuple(_rule(table, index, tags, calendars) for index, table in enumerate(tables))
    counts = Counter[str]()
    for index, rule in enumerate(rules):
        counts[rule.name] += 1
        if counts[rule.name] > 1:
            place = replace(_rule_place(index, rule.name), key="name")
            raise PolicyProblem("is the name of an earlier rule too; names must be unique", place)
    return rules


def _rule(table: object, index: int, tags: Mapping[str, Collection[str]], calendars: _CalendarReader) -> Rule:
    name = table.get("name") if isinstance(table, dict) else None
    place = _rule_place(index, name)
    references = {kind: read.several(read.one_of(tags[kind], f"entry of [{kind}]")) for kind in TAG_TABLES}
    readers: dict[str, read.Reader] = {
        "name": read.text,
        "priority": read.integer,
        "vms": read.several(read.text),
        **references,
        "resources": read.several(read.resource),
        "calendar": lambda value: calendars.read(value, _rule_place(index, name, "calendar")),
        **TERM_KEYS,
    }
    found = read_table(table, readers, place)
    if "name" not in found:
        raise PolicyProblem("has no name; decisions are explained by it", place)
    terms = Terms(**{key: found.pop(key) for key in TERM_KEYS if key in found})
    if not terms.stated():
        raise PolicyProblem(f"sets nothing; give it one of {', '.join(TERM_KEYS)}", place)
    rule = Rule(terms=terms, **found)
    _check_terms(terms, rule.resources, place)
    return rule


def _rule_place(index: int, name: object, inner: str = "") -> Place:
    words = f"rule {read.shown(name)}" if isinstance(name, str) and name else f"rule number {index + 1}"
    return Place(f"rule.{inner}", index, f"{words}, {inner}") if inner else Place("rule", index, words)


def _check_terms(terms: Terms, resources: tuple[Resource, ...], place: Place) -> None:
    """Refuse terms that contradict each other or say nothing about ``resources``."""
    units = {resource.unit for resource in resources}
    stated = terms.stated()
    for bound in BOUNDS:
        for key in (f"{bound}_{unit}" for unit in ("cores", "bytes", "bytes_per_s")):
            if key not in stated:
                continue
            if f"{bound}_ratio" in stated:
                raise PolicyProblem(f"has both {key} and {bound}_ratio; say one of them", replace(place, key=key))
            if key.removeprefix(f"{bound}_") not in units:
                what = f"{key} says nothing about its resources ({', '.join(resources)})"
                raise PolicyProblem(what, replace(place, key=key))
    for key, floor in stated.items():
        ceiling_key = key.replace("floor_", "ceiling_")
        if key.startswith("floor_") and floor > stated.get(ceiling_key, floor):
            what = f"{key} {floor:.12g} lies above {ceiling_key} {stated[ceiling_key]:.12g}"
            raise PolicyProblem(what, replace(place, key=key))


def _check_trust(groups: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a name or pattern that stands in two trust groups."""
    places: dict[str, str] = {}
    for name, patterns in groups.items():
        for pattern in patterns:
            if places.setdefault(pattern, name) != name:
                what = f"{read.shown(pattern)} is in {read.shown(places[pattern])} too; a VM is in one trust group"
                raise PolicyProblem(what, Place(TRUST_TABLE, key=name, words=f"[{TRUST_TABLE}]"))


def _named_lists(document: Mapping[str, Any], kind: str, reader: read.Reader) -> dict[str, tuple[Any, ...]]:
    """Read a table of names that the operator chose, each with a list."""
    place, table = Place(kind, words=f"[{kind}]"), document.get(kind, {})
    if not isinstance(table, dict):
        raise PolicyProblem(f"must be a table of names, each with a list, not {read.shown(table)}", place)
    for name in table:
        if not name.strip() or not name.isprintable():
            raise PolicyProblem(f"has the name {read.shown(name)}, which is not printable text", place)
    return read_values(table, dict.fromkeys(table, read.several(reader, may_be_empty=True)), place)
