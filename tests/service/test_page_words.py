"""Numbers and decisions in words."""

from __future__ import annotations

import math
from typing import Any

import pytest

from forestall.model.amounts import amount
from forestall.model.resources import Resource
from forestall.service.api.documents import Decision
from forestall.service.web import words


@pytest.mark.parametrize(
    ("value", "resource", "told"),
    [
        (None, "cpu", "–"),
        (1.2345, "cpu", "1.23"),
        (0.0, "memory", "0B"),
        (1_020.0 * 2**20, "memory", "1020MiB"),
        (2.0**33, "memory", "8GiB"),
        (1.5e6, "net_rx", "1.43MiB/s"),
        (2.0**63, "memory", "8192PiB"),
    ],
)
def test_amounts(value: float | None, resource: str, told: str) -> None:
    assert amount(value, resource) == told


@pytest.mark.parametrize(
    ("probability", "told", "level"),
    [
        (None, "–", "unknown"),
        (math.nan, "–", "unknown"),
        (0.0, "0 %", "low"),
        (1e-9, "< 0.01 %", "low"),
        (0.0032, "0.32 %", "low"),
        (0.049, "4.9 %", "low"),
        (0.05, "5 %", "some"),
        (0.1234, "12 %", "some"),
        (0.2, "20 %", "high"),
        (1.0, "100 %", "high"),
    ],
)
def test_chances(probability: float | None, told: str, level: str) -> None:
    assert (words.chance(probability), words.level(probability)) == (told, level)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "–"), (0.2, "0 s"), (59.6, "1 min"), (300.0, "5 min"), (3_661.0, "1 h 1 min"), (90_000.0, "1 d 1 h")],
)
def test_lengths_of_time(seconds: float | None, told: str) -> None:
    assert words.lasting(seconds) == told


def test_instants_are_dates_or_hours_of_days() -> None:
    assert words.instant(1_772_409_600) == "2026-03-02 00:00:00 UTC"
    assert words.instant(3_600) == "day 0, 01:00"
    assert words.instant(None) == "–"


@pytest.mark.parametrize(
    ("part", "whole", "share"),
    [(1.0, 4.0, 0.25), (5.0, 4.0, 1.0), (-1.0, 4.0, 0.0), (None, 4.0, None), (1.0, None, None), (1.0, 0.0, None),
     (1.0, math.inf, None)],
)  # fmt: skip
def test_shares(part: float | None, whole: float | None, share: float | None) -> None:
    assert words.ratio(part, whole) == share


def test_rates_of_networks_are_bits() -> None:
    assert words.bits(0.0) == "0 bit/s"
    assert words.bits(125.0) == "1 kbit/s"
    assert words.bits(1.25e9) == "10 Gbit/s"
    assert words.bits(124.97e6) == "1 Gbit/s"
    assert words.bits(112.3e6) == "898 Mbit/s"
    assert words.bits(1.25e15) == "10000 Tbit/s"
    assert words.bits(None) == "–"


DECISION: dict[str, Any] = {
    "vm_id": "web", "resource": "cpu", "decided_at": 0, "in_force_at": 300, "allocated": 1.5, "previous": 2.0,
    "limit": 4.0, "granted": 1.5, "quantiles": [(0.5, 0.9), (0.99, 1.4)], "risk": 0.01, "probability": 0.005,
    "wanted": 1.5, "price": 0.0, "weight": 1.0, "floor": 0.1, "ceiling": 4.0, "budget": 0.01, "policies": [],
    "experts": {"boosted": 0.6, "last_value": 0.4, "silent": None}, "ruling": "accepted",
    "reason": "what its promise asks for now", "outcome": None, "restored": None,
}  # fmt: skip


def decision(**more: Any) -> Decision:
    return Decision(**{**DECISION, **more})


def test_a_decision_is_explained_in_sentences() -> None:
    assert words.explained(decision()) == (
        "Would hold 1.5 cores of 4 cores: what its promise asks for now. "
        "In 99 of 100 cases it is expected to demand at most 1.4 cores. "
        "The chance of falling short that is taken now is 0.5 %; it may happen in 1 % of its intervals. "
        "Most trusted: boosted (60%)."
    )
    assert "λ is 0.25, its weight 2" in words.explained(decision(price=0.25, weight=2.0))
    assert "at most 4 cores" in words.explained(decision(quantiles=[(0.99, 8.8)])), "no more than can come"


OUTCOME: dict[str, Any] = {"amount": 1.5, "result": "done", "read_back": 1.5, "reason": "", "at": 1_772_409_600}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"outcome": OUTCOME}, "Holds 1.5 cores of 4 cores, set at 2026-03-02 00:00:00 UTC: what"),
        (
            {"outcome": {**OUTCOME, "result": "failed", "read_back": 4.0, "reason": "libvirt does not answer"}},
            "Holds 4 cores of 4 cores; to set it to 1.5 cores failed at 2026-03-02 00:00:00 UTC "
            "(libvirt does not answer): what",
        ),
        (
            {"outcome": {**OUTCOME, "result": "pending", "read_back": 2.0, "at": None}},
            "Holds 2 cores of 4 cores; to set it to 1.5 cores is on its way: what",
        ),
        ({"granted": 3.0, "ruling": "clipped"}, "Would hold 3 cores of 4 cores: what"),
        (
            {"outcome": OUTCOME, "restored": {"vm_id": "web", "at": 1_772_409_660, "why": "asked for"}},
            "Was put back as it was at 2026-03-02 00:01:00 UTC (asked for); would hold 1.5 cores of 4 cores: what",
        ),
    ],
)
def test_what_it_holds_is_what_came_of_it_not_what_was_wanted(more: dict[str, Any], told: str) -> None:
    assert words.explained(decision(**more)).startswith(told)


def test_what_happened_has_instants() -> None:
    restored = {"vm_id": "web", "at": 1_772_409_660, "why": "asked for"}
    failed = {**OUTCOME, "result": "failed", "reason": "away"}
    assert words.events_of(decision(outcome=failed, restored=restored)) == [
        (1_772_409_600, "CPU set to 1.5 cores: failed (away)"),
        (1_772_409_660, "CPU put back as it was: asked for"),
    ]
    assert words.events_of(decision()) == []


def test_what_is_not_known_is_left_out() -> None:
    bare = decision(limit=None, quantiles=[(0.99, None)], probability=None, price=None, experts={}, reason="")
    assert words.explained(bare) == "Would hold 1.5 cores: accepted."
    assert words.trusted({"a": None, "b": 0.1, "c": 0.9}) == [("c", 0.9), ("b", 0.1)]
    assert words.explained(decision(price=0.1, weight=None)).count("its weight –") == 1
    assert (words.more(3, 3), words.more(5, 3)) == ("", "; 2 more are not shown")
    assert words.listed([], 2) == ""
    assert words.listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert words.of(1.0, None, "cpu") == "1 core"
    assert {words.kind(resource) for resource in Resource} == {
        "CPU", "memory", "disk reads", "disk writes", "network in", "network out"
    }  # fmt: skip
