"""What a policy says: which rule wins, when a calendar holds, and how amounts are fitted."""

from __future__ import annotations

import doctest
from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forestall.demand.policy
from forestall.demand.calendar import AnnualRange, Calendar, DateRange, TimeRange
from forestall.demand.policy import PolicySet, PolicyTable, Rule, Terms
from forestall.demand.policy_review import contradictions, doubts
from forestall.model.resources import Resource

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
CPU = (Resource.CPU,)
NIGHT = TimeRange(22 * 60, 6 * 60)
ALWAYS_OPEN = Calendar(BERLIN, times=(TimeRange(0, 1440),))


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp())


def weigh(name: str, weight: float, **matcher: object) -> Rule:
    return Rule(name, Terms(weight=weight), **matcher)  # type: ignore[arg-type]


def resolve_one(policy: PolicySet, vm: str = "db-1", limit: float = 8.0, now: int = 0, **options: bool) -> PolicyTable:
    return policy.resolve((vm,), CPU, np.array([[limit]]), now, **options)


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(forestall.demand.policy).failed == 0


def test_without_rules_everything_up_to_the_limit() -> None:
    table = PolicySet().resolve(("a",), tuple(Resource), np.array([[4.0, 1e9, np.inf, np.nan, 0.0, np.inf]]), 0)
    assert table.weight.tolist() == [[1.0] * 6]
    assert table.floor.tolist() == [[0.0] * 6]
    assert table.ceiling.tolist() == [[4.0, 1e9, np.inf, np.inf, 0.0, np.inf]]
    assert table.anomaly_ceiling.tolist() == table.ceiling.tolist()
    assert table.budget.tolist() == [[0.01] * 6]
    assert table.names == ((),)
    assert not table.clipped.any()


def test_a_policy_of_no_vms_and_no_resources() -> None:
    policy = PolicySet((weigh("a", 2.0),))
    assert policy.resolve((), CPU, np.empty((0, 1)), 0).weight.shape == (0, 1)
    assert policy.resolve(("a",), (), np.empty((1, 0)), 0).names == ((),)


SPECIFIC = [
    {"vms": ("db-1",)},
    {"vms": ("db-*",)},
    {"groups": ("g",)},
    {"applications": ("a",)},
    {},
]
TAGS = {"groups": {"g": ("db-*",)}, "applications": {"a": ("db-1", "x")}, "owners": {"o": ("db-?",)}}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("place", range(len(SPECIFIC) - 1))
def test_the_more_specific_rule_wins_wherever_it_stands(place: int, reverse: bool) -> None:
    rules = [weigh("strong", 2.0, **SPECIFIC[place]), weigh("weak", 3.0, **SPECIFIC[place + 1])]
    table = resolve_one(PolicySet(tuple(rules[::-1] if reverse else rules), **TAGS))
    assert table.weight[0, 0] == 2.0
    assert table.names == (("strong",),)


def test_priority_beats_specificity() -> None:
    policy = PolicySet((weigh("every", 2.0, priority=1), weigh("named", 3.0, vms=("db-1",))))
    assert resolve_one(policy).weight[0, 0] == 2.0


def test_a_calendar_beats_none_and_then_the_last_wins() -> None:
    policy = PolicySet((weigh("timed", 2.0, calendar=ALWAYS_OPEN), weigh("first", 3.0), weigh("last", 4.0)))
    assert resolve_one(policy).weight[0, 0] == 2.0
    assert resolve_one(replace(policy, rules=policy.rules[1:])).weight[0, 0] == 4.0
    owner, application = weigh("owner", 5.0, owners=("o",)), weigh("application", 6.0, applications=("a",))
    assert resolve_one(PolicySet((owner, application), **TAGS)).names == (("application",),)
    assert resolve_one(PolicySet((application, owner), **TAGS)).names == (("owner",),)


def test_each_attribute_is_decided_by_itself() -> None:
    heavy = Rule("heavy", Terms(weight=5.0, floor_ratio=0.25), priority=1)
    policy = PolicySet(
        (heavy, Rule("named", Terms(weight=2.0, violation_budget=0.2), vms=("db-1",))),
        defaults=Terms(ceiling_ratio=0.5),
    )
    table = resolve_one(policy)
    assert (table.weight[0, 0], table.budget[0, 0], table.floor[0, 0], table.ceiling[0, 0]) == (5.0, 0.2, 2.0, 4.0)
    assert table.names == (("heavy", "named"),)
    assert str(table.statement("ceiling", 0, 0)) == "ceiling_ratio 0.5 of defaults"
    assert str(table.statement("weight", 0, 0)) == "weight 5 of rule 'heavy'"


def test_all_matchers_of_a_rule_must_match_each_by_one_entry() -> None:
    rule = weigh("both", 2.0, vms=("x", "db-*"), owners=("o", "p"))
    policy = PolicySet((rule,), owners={"o": ("db-1",), "p": ("y",)})
    table = policy.resolve(("db-1", "db-2", "x", "y"), CPU, np.ones((4, 1)), 0)
    assert table.weight[:, 0].tolist() == [2.0, 1.0, 1.0, 1.0]


def test_a_rule_with_a_name_and_a_pattern_ranks_by_what_matched() -> None:
    policy = PolicySet((weigh("mixed", 2.0, vms=("db-1", "db-*")), weigh("pattern", 3.0, vms=("db-*",))))
    table = policy.resolve(("db-1", "db-2"), CPU, np.ones((2, 1)), 0)
    assert table.weight[:, 0].tolist() == [2.0, 3.0]
    assert [rule.name for rule in policy.in_order()] == ["mixed", "pattern"]


def test_case_matters_and_patterns_match_the_whole_name() -> None:
    policy = PolicySet((weigh("a", 2.0, vms=("db-[0-9]",)),))
    table = policy.resolve(("db-1", "DB-1", "db-12", "xdb-1"), CPU, np.ones((4, 1)), 0)
    assert table.weight[:, 0].tolist() == [2.0, 1.0, 1.0, 1.0]


def test_terms_hold_for_the_resources_of_their_unit() -> None:
    rule = Rule("a", Terms(floor_cores=1.0, ceiling_bytes_per_s=5.0), resources=(Resource.CPU, Resource.NET_RX))
    table = PolicySet((rule,)).resolve(("a",), tuple(Resource), np.full((1, 6), 9.0), 0)
    assert table.floor.tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    assert table.ceiling.tolist() == [[9.0, 9.0, 9.0, 9.0, 5.0, 9.0]]
    assert table.names_for(Resource.NET_RX) == (("a",),)
    assert table.names_for(Resource.NET_TX) == ((),)


@pytest.mark.parametrize(
    ("limit", "floor", "name"), [(8.0, 4.0, "ratio"), (np.inf, 1.0, "amount"), (np.nan, 1.0, "amount")]
)
def test_a_ratio_says_nothing_without_a_limit(limit: float, floor: float, name: str) -> None:
    ratio, amount = Rule("ratio", Terms(floor_ratio=0.5), priority=1), Rule("amount", Terms(floor_cores=1.0))
    table = resolve_one(PolicySet((ratio, amount)), limit=limit)
    assert table.floor[0, 0] == floor
    assert table.statement("floor", 0, 0).source == name


def test_a_floor_above_the_limit_is_held_there_with_a_reason() -> None:
    table = resolve_one(PolicySet((Rule("big", Terms(floor_cores=4.0)),)), limit=2.0)
    assert (table.floor[0, 0], table.ceiling[0, 0]) == (2.0, 2.0)
    assert table.clipped.tolist() == [[True]]
    assert table.reasons(0, 0) == ("floor_cores 4 of rule 'big' is above the limit 2: held at the limit",)


def test_a_ceiling_below_the_floor_is_raised_with_a_reason() -> None:
    policy = PolicySet((Rule("low", Terms(ceiling_ratio=0.25)), Rule("high", Terms(floor_cores=4.0))))
    table = resolve_one(policy, limit=8.0)
    assert (table.floor[0, 0], table.ceiling[0, 0], table.anomaly_ceiling[0, 0]) == (4.0, 4.0, 4.0)
    assert table.reasons(0, 0) == ("ceiling_ratio 0.25 of rule 'low' is below the floor 4: raised to the floor",)
    assert resolve_one(policy, limit=16.0).reasons(0, 0) == ()


def test_a_ceiling_above_the_limit_is_held_there_with_a_reason() -> None:
    table = resolve_one(PolicySet((Rule("big", Terms(ceiling_cores=4.0)),)), limit=2.0)
    assert table.clipped.tolist() == [[True]]
    assert table.reasons(0, 0) == ("ceiling_cores 4 of rule 'big' is above the limit 2: held at the limit",)


def test_the_ceiling_under_anomalies_lies_between_floor_and_ceiling() -> None:
    policy = PolicySet(defaults=Terms(floor_cores=3.0, anomaly_ceiling_ratio=0.5))
    assert [resolve_one(policy, limit=x).anomaly_ceiling[0, 0] for x in (2.0, 4.0, 8.0)] == [2.0, 3.0, 4.0]
    assert resolve_one(policy, limit=np.inf).anomaly_ceiling[0, 0] == np.inf


# Calendars: 2026-10-23 is a Friday; in Berlin clocks go forward on 2026-03-29 and back on 2026-10-25.


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-10-23T21:59:59", False),
        ("2026-10-23T22:00:00", True),
        ("2026-10-24T05:59:59", True),
        ("2026-10-24T06:00:00", False),
        ("2026-10-24T22:30:00", False),
        ("2026-10-23T03:00:00", False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(moment: str, holds: bool) -> None:
    friday_night = Calendar(BERLIN, weekdays=frozenset({4}), times=(NIGHT,))
    assert friday_night.holds_at(at(moment)) is holds


def test_a_holiday_cancels_the_night_that_begins_on_it() -> None:
    nights = Calendar(BERLIN, times=(NIGHT,), except_dates=(AnnualRange((12, 25), (12, 25)),))
    moments = ("2026-12-25T05:00", "2026-12-25T23:00", "2026-12-26T05:00", "2026-12-26T23:00")
    assert [nights.holds_at(at(moment)) for moment in moments] == [True, False, False, True]


def test_windows_keep_their_wall_clock_time_when_the_clocks_change() -> None:
    office = Calendar(BERLIN, times=(TimeRange(8 * 60, 18 * 60),))
    for day in ("2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25"):
        assert [office.holds_at(at(f"{day}T{hour}")) for hour in ("07:59", "08:00", "17:59", "18:00")] == [
            False, True, True, False,
        ]  # fmt: skip


def test_the_skipped_hour_is_in_no_window_and_the_doubled_one_is_in_it_twice() -> None:
    hour = Calendar(BERLIN, times=(TimeRange(2 * 60, 3 * 60),))

    def held_seconds(day: str) -> int:
        start = at(f"{day}T00:00")
        return sum(hour.holds_at(now) * 300 for now in range(start, start + 12 * 3600, 300))

    assert [held_seconds(day) for day in ("2026-03-29", "2026-10-24", "2026-10-25")] == [0, 3600, 7200]


def test_a_night_over_the_change_of_clocks_is_an_hour_shorter_or_longer() -> None:
    night = Calendar(BERLIN, times=(NIGHT,))

    def held_hours(evening: str) -> float:
        start = at(f"{evening}T12:00")
        return sum(night.holds_at(now) for now in range(start, start + 86400, 300)) / 12

    assert [held_hours(day) for day in ("2026-03-27", "2026-03-28", "2026-10-24")] == [8, 7, 9]


def test_the_same_instant_in_two_time_zones() -> None:
    morning = (TimeRange(8 * 60, 9 * 60),)
    now = at("2026-06-01T08:30", NEW_YORK)
    assert Calendar(NEW_YORK, times=morning).holds_at(now)
    assert not Calendar(BERLIN, times=morning).holds_at(now)
    monday_in_tokyo = Calendar(ZoneInfo("Asia/Tokyo"), weekdays=frozenset({0}))
    sunday = at("2026-05-31T20:00", NEW_YORK)
    assert monday_in_tokyo.holds_at(sunday)
    assert not replace(monday_in_tokyo, zone=NEW_YORK).holds_at(sunday)


def test_dates_of_one_year_and_of_every_year() -> None:
    new_year = AnnualRange((12, 31), (1, 2))
    assert [date(2030, *day) in new_year for day in ((12, 30), (12, 31), (1, 1), (1, 2), (1, 3))] == [
        False, True, True, True, False,
    ]  # fmt: skip
    closing = Calendar(BERLIN, dates=(DateRange(date(2026, 3, 30), date(2026, 4, 1)), new_year))
    days = ("2026-03-29", "2026-03-30", "2026-04-01", "2027-04-01", "2027-12-31")
    assert [closing.holds_at(at(f"{day}T12:00")) for day in days] == [False, True, True, False, True]


def test_impossible_calendars_are_recognised() -> None:
    friday = DateRange(date(2026, 10, 23), date(2026, 10, 23))
    assert not Calendar(BERLIN, weekdays=frozenset({0}), dates=(friday,)).ever_holds()
    assert Calendar(BERLIN, weekdays=frozenset({4}), dates=(friday,)).ever_holds()
    assert not Calendar(BERLIN, except_dates=(AnnualRange((1, 1), (12, 31)),)).ever_holds()
    assert Calendar(BERLIN, weekdays=frozenset({0}), dates=(AnnualRange((2, 29), (2, 29)),)).ever_holds()


def test_a_rule_holds_only_while_its_calendar_does() -> None:
    policy = PolicySet((weigh("night", 2.0, calendar=Calendar(BERLIN, times=(NIGHT,))), weigh("day", 3.0)))
    weights = [resolve_one(policy, now=at(f"2026-10-23T{hour}:00")).weight[0, 0] for hour in ("12", "23", "12")]
    assert weights == [3.0, 2.0, 3.0]


def test_without_a_calendar_windows_never_match_and_that_can_be_said() -> None:
    policy = PolicySet((weigh("open", 2.0, calendar=ALWAYS_OPEN), weigh("always", 3.0)))
    assert resolve_one(policy).weight[0, 0] == 2.0
    assert resolve_one(policy, calendar=False).weight[0, 0] == 3.0
    assert policy.without_calendar() == "the calendar is hidden, so that the windows of rule 'open' never match"
    assert PolicySet((weigh("always", 3.0),)).without_calendar() is None


# What can be seen without any VM.


def test_rules_that_never_win_are_named() -> None:
    wide = Rule("wide", Terms(weight=2.0, floor_ratio=0.1), priority=1, vms=("db-*",))
    assert doubts(PolicySet((weigh("narrow", 3.0, vms=("db-1",)), wide))) == (
        "rule 'narrow' can never win: 'wide' always comes first",
    )
    both = Rule("narrow", Terms(weight=3.0, violation_budget=0.1), vms=("db-1*",))
    assert doubts(PolicySet((both, wide))) == ("rule 'narrow': its weight can never win: 'wide' always comes first",)


@pytest.mark.parametrize(
    "wide",
    [
        weigh("wide", 2.0, vms=("db-*",)),
        weigh("wide", 2.0, vms=("web-*",), priority=1),
        weigh("wide", 2.0, vms=("db-?",), priority=1),
        weigh("wide", 2.0, priority=1, calendar=ALWAYS_OPEN),
        weigh("wide", 2.0, priority=1, resources=CPU),
        weigh("wide", 2.0, priority=1, groups=("g",)),
        Rule("wide", Terms(floor_ratio=0.1), priority=1),
    ],
)
def test_rules_that_may_win_are_not_named(wide: Rule) -> None:
    narrow = weigh("narrow", 3.0, vms=("db-1", "db-1*"))
    said = doubts(PolicySet((narrow, wide), groups={"g": ("db-*",)}))
    assert [line for line in said if line.startswith("rule")] == []


def test_tags_that_do_nothing_are_named() -> None:
    policy = PolicySet((weigh("a", 2.0, groups=("used",)),), groups={"used": (), "idle": ("x",)})
    assert doubts(policy) == ("[groups]: 'used' is empty, so that it matches no VM", "[groups]: no rule uses 'idle'")


def test_floors_above_ceilings_of_other_rules_are_found() -> None:
    low, high = Rule("low", Terms(ceiling_ratio=0.3), vms=("small-*",)), Rule("high", Terms(floor_ratio=0.5))
    (found,) = contradictions(PolicySet((low, high)))
    assert (found.rule, found.key) == ("low", "ceiling_ratio")
    assert "floor_ratio 0.5 of rule 'high' for a VM such as 'small-1'" in found.what
    settled = Rule("settled", Terms(floor_ratio=0.1), vms=("small-*",))
    assert contradictions(PolicySet((low, high, settled))) == ()
    assert contradictions(PolicySet((replace(low, resources=CPU), replace(high, resources=(Resource.MEMORY,))))) == ()
    (by_day,) = contradictions(PolicySet((replace(low, calendar=ALWAYS_OPEN), high)))
    assert by_day.rule == "low"
    (default,) = contradictions(PolicySet((high,), defaults=Terms(ceiling_ratio=0.4)))
    assert (default.rule, default.key) == ("high", "floor_ratio")


# Properties.

VMS = st.sampled_from(["a-1", "a-2", "b-1", "b-2", "c"])
RATIO = st.none() | st.floats(0.01, 1.0)
AMOUNT = st.none() | st.floats(0.0, 100.0)
TERMS = st.builds(
    Terms,
    weight=st.none() | st.floats(0.1, 10.0),
    floor_cores=AMOUNT,
    floor_ratio=RATIO,
    ceiling_cores=AMOUNT,
    ceiling_bytes_per_s=AMOUNT,
    ceiling_ratio=RATIO,
    anomaly_ceiling_ratio=RATIO,
)
RULES = st.builds(
    Rule,
    name=st.just("rule"),
    terms=TERMS,
    priority=st.integers(0, 2),
    vms=st.lists(st.sampled_from(["a-1", "a-*", "b-?", "*", "c"]), max_size=2).map(tuple),
    groups=st.sampled_from([(), ("g",)]),
    calendar=st.sampled_from(
        [None, None, Calendar(BERLIN, times=(NIGHT,)), Calendar(BERLIN, weekdays=frozenset({0, 3}))]
    ),
    resources=st.sampled_from([tuple(Resource), CPU]),
)
POLICIES = st.builds(
    lambda rules, defaults: PolicySet(
        tuple(replace(rule, name=f"rule-{i}") for i, rule in enumerate(rules)),
        groups={"g": ("a-*", "c")},
        defaults=defaults,
    ),
    st.lists(RULES, max_size=6),
    TERMS,
)
LIMITS = st.lists(st.sampled_from([0.0, 0.5, 4.0, 64.0, np.inf, np.nan]), min_size=6 * 5, max_size=6 * 5).map(
    lambda values: np.array(values).reshape(5, 6)
)
NOW = st.integers(0, 14 * 86400)


@given(POLICIES, LIMITS, NOW)
def test_floor_ceiling_and_limit_are_always_in_order(policy: PolicySet, limit: np.ndarray, now: int) -> None:
    table = policy.resolve(("a-1", "a-2", "b-1", "b-2", "c"), tuple(Resource), limit, now)
    assert (table.floor >= 0).all()
    assert (table.floor <= table.anomaly_ceiling).all()
    assert (table.anomaly_ceiling <= table.ceiling).all()
    assert (table.ceiling <= np.where(np.isnan(limit), np.inf, limit)).all()
    for vm, column in np.argwhere(table.clipped):
        assert table.reasons(vm, column)


@given(POLICIES, LIMITS, st.lists(st.tuples(st.integers(0, 5), NOW), max_size=8))
def test_a_growing_roster_says_the_same_as_one_from_scratch(
    policy: PolicySet, limit: np.ndarray, steps: list[tuple[int, int]]
) -> None:
    roster = ("b-1", "a-1", "c", "a-2", "b-2")
    for known, now in steps:
        kept = policy.resolve(roster[:known], tuple(Resource), limit[:known], now)
        fresh = replace(policy).resolve(roster[:known], tuple(Resource), limit[:known], now)
        assert kept.names == fresh.names
        for name in ("weight", "floor", "ceiling", "budget", "anomaly_ceiling"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(fresh, name))


@given(POLICIES, VMS, NOW)
def test_winners_follow_the_documented_order(policy: PolicySet, vm: str, now: int) -> None:
    table = resolve_one(policy, vm, now=now)

    def specific(rule: Rule) -> int:
        if rule.vms:
            return 4 if vm in rule.vms else 3
        return 2 if rule.groups else 0

    def matches(rule: Rule) -> bool:
        alone = PolicySet((replace(rule, terms=Terms(weight=7.0)),), groups=policy.groups)
        return bool(resolve_one(alone, vm, now=now).weight[0, 0] == 7.0)

    setting = [(i, r) for i, r in enumerate(policy.rules) if r.terms.weight is not None and matches(r)]
    if setting:
        _, best = max(setting, key=lambda p: (p[1].priority, specific(p[1]), p[1].calendar is not None, p[0]))
        assert table.statement("weight", 0, 0).source == best.name


def test_models_are_trained_across_trust_groups_only_where_that_is_allowed() -> None:
    names = tuple(f"red-{i}" for i in range(9))
    policy = PolicySet(trust_groups={"red": ("red-*",), "blue": ("blue-*",)})
    assert policy.trust((*names, "blue-1", "else")) == ("red",) * 9 + ("blue", "")
    assert not policy.apart(names)
    assert "2 trust groups" in policy.apart((*names, "else"))
    allowed = replace(policy, models_across_trust_groups=True)
    assert not allowed.apart((*names, "else"))
    assert "need 10 VMs, and there are 9" in allowed.apart((*names[:8], "blue-1"))


def test_rules_take_a_vm_for_what_it_is_recognised_as_where_the_operator_says_nothing_of_it() -> None:
    policy = PolicySet(
        (weigh("web", 3.0, applications=("web",)), weigh("mine", 5.0, applications=("shop",))),
        applications={"shop": ("shop-*",), "web": ("www",)},
        recognise_applications=0.9,
    )
    recognised = {"db-1": "web", "shop-1": "web", "www": "database", "odd[1]": "web"}
    taken = policy.recognising(recognised)
    assert taken == {"db-1": "web"}, "not those of which the operator says what they run, and no pattern"
    tagged = policy.tagged(taken)
    weights = {vm: resolve_one(tagged, vm).weight[0, 0] for vm in ("db-1", "shop-1", "www", "odd1", "odd[1]")}
    assert weights == {"db-1": 3.0, "shop-1": 5.0, "www": 3.0, "odd1": 1.0, "odd[1]": 1.0}
    assert tagged.runs(("db-1", "shop-1"), ("web", "shop")).tolist() == [[True, False], [False, True]]
    assert policy.tagged({}) is policy
    assert replace(policy, recognise_applications=None).recognising(recognised) == {}


def test_rules_for_recognised_applications_are_reviewed_too() -> None:
    rules = (
        Rule("floor", Terms(floor_cores=4.0), applications=("web",)),
        Rule("ceiling", Terms(ceiling_cores=2.0), applications=("web",)),
    )
    policy = PolicySet(rules, applications={"web": ()})
    assert contradictions(policy) == ()
    assert any("is empty" in doubt for doubt in doubts(policy))
    recognising = replace(policy, recognise_applications=0.9)
    assert [found.rule for found in contradictions(recognising)] == ["ceiling"]
    assert not any("is empty" in doubt for doubt in doubts(recognising))
