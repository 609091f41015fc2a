"""Which disks go where: by what a move saves and costs, and what fits."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.ports.tiers import DiskName, Tier, TierDisk
from forestall.staging.tiers.plan import Outlook, TierSettings, plan, proposal

GIB = 1 << 30
HOURS = 24
SETTINGS = TierSettings(bytes_per_s=100 << 20, keep_free_bytes=0)


def tiers(fast: int = 100, slow: int = 1000, middle: int | None = None) -> tuple[Tier, ...]:
    """Quick, perhaps middling, and slow storage; free GiB of each."""
    found = [Tier("fast", "/fast", 0.1, fast * GIB), Tier("slow", "/slow", 8.0, slow * GIB)]
    if middle is not None:
        found.insert(1, Tier("middle", "/middle", 1.0, middle * GIB))
    return tuple(found)


def disk(vm: str, tier: str, per_s: float, gib: float = 1, **said: object) -> Outlook:
    size_bytes = int(gib * GIB)
    refusal = str(said.pop("refusal", ""))
    found = TierDisk(DiskName(vm, "vda"), "1", vm, f"/{tier}/{vm}", tier, size_bytes, 0, 0.0, refusal)
    stated = {"wait_ms": math.nan, "seen_hours": 100} | said
    return Outlook(found, np.full(HOURS, per_s), **stated)  # type: ignore[arg-type]


def moves(
    outlooks: list[Outlook], places: tuple[Tier, ...], settings: TierSettings = SETTINGS
) -> list[tuple[str, ...]]:
    return [(m.name.vm_id, m.from_tier, m.to_tier) for m in plan(outlooks, places, settings).moves]


def test_what_a_move_saves_and_costs() -> None:
    fast, slow = tiers()
    found = proposal(disk("a", "slow", 10, 100), slow, fast, SETTINGS, "")
    assert found.lead_seconds == pytest.approx(1024)
    waited = 10 * (HOURS * 3600 - 1024) * 0.008
    assert found.gain_seconds == pytest.approx(waited * (1 - 0.1 / 8))
    assert found.cost_seconds == pytest.approx(100 * 1024 * 0.0081)
    # Of a disk that the host has in its page cache requests wait for less, and there is less to save.
    cached = proposal(disk("a", "slow", 10, 100, wait_ms=0.08), slow, fast, SETTINGS, "")
    assert cached.gain_seconds == pytest.approx(found.gain_seconds / 100)
    # What comes before the copy is there is not saved.
    early = disk("a", "slow", 0, 100)
    early.requests_per_s[0] = 36
    late = disk("a", "slow", 0, 100)
    late.requests_per_s[5] = 36
    gains = [proposal(one, slow, fast, SETTINGS, "").gain_seconds for one in (early, late)]
    assert gains[0] / gains[1] == pytest.approx(1 - 1024 / 3600)


def test_a_busy_disk_goes_up_and_an_idle_one_stays() -> None:
    found = plan([disk("busy", "slow", 5), disk("idle", "slow", 0.0001)], tiers(), SETTINGS)
    assert [(m.name.vm_id, m.to_tier) for m in found.moves] == [("busy", "fast")]
    assert "does not pay: saves 0 s of waiting in 24 hours, costs 8 s" in found.stays[DiskName("idle", "vda")]


def test_why_disks_stay() -> None:
    disks = [
        disk("young", "slow", 9, seen_hours=2),
        disk("readonly", "slow", 9, refusal="is read only"),
        disk("elsewhere", "", 9),
        disk("rests", "slow", 9, free=False),
        disk("quick", "fast", 9),
        disk("silent", "slow", 0),
        disk("large", "slow", 90, 200),
    ]
    found = plan(disks, tiers(), SETTINGS)
    assert not found.moves
    assert {name.vm_id: why for name, why in found.stays.items()} == {
        "young": "known for 2 hours of 6",
        "readonly": "is read only",
        "elsewhere": "lies on none of the tiers",
        "rests": "is left as it is",
        "quick": "lies on the quickest tier",
        "silent": "is hardly asked",
        "large": "fast has no room",
    }


def test_who_loses_least_makes_room_if_that_pays() -> None:
    full = tiers(fast=0)
    disks = [disk("busy", "slow", 50, 2), disk("cold", "fast", 0.001, 2), disk("warm", "fast", 20, 2)]
    assert moves(disks, full) == [("cold", "fast", "slow"), ("busy", "slow", "fast")]
    assert plan(disks, full, SETTINGS).moves[0].why == "makes room for busy:vda"
    assert moves([disk("busy", "slow", 21, 2), disk("warm", "fast", 20, 2)], full) == [("warm", "fast", "slow"),
                                                                                  ("busy", "slow", "fast")]  # fmt: skip
    assert moves([disk("busy", "slow", 20.0001, 2), disk("warm", "fast", 20, 2)], full) == []
    # Where old images stay, nobody makes room by going.
    keeps = TierSettings(bytes_per_s=100 << 20, keep_free_bytes=0, removes_old=False)
    assert moves(disks, full, keeps) == []


def test_a_tier_that_is_too_full_is_relieved_of_its_coldest() -> None:
    settings = TierSettings(bytes_per_s=100 << 20, keep_free_bytes=10 * GIB)
    disks = [disk("hot", "fast", 50, 4), disk("cold", "fast", 0, 4), disk("cool", "fast", 1, 4)]
    assert moves(disks, tiers(fast=3), settings) == [("cold", "fast", "slow"), ("cool", "fast", "slow")]


def test_the_middle_is_better_than_nothing() -> None:
    assert moves([disk("busy", "slow", 50, 20)], tiers(fast=5, middle=50)) == [("busy", "slow", "middle")]
    assert moves([disk("busy", "slow", 50, 2)], tiers(fast=5, middle=50)) == [("busy", "slow", "fast")]


@given(st.integers(0, 10_000))
def test_no_tier_is_ever_overfull_and_every_change_pays(seed: int) -> None:
    dice = random.Random(seed)
    places = tiers(dice.randint(0, 20), dice.randint(0, 40), dice.randint(0, 20))
    room = {tier.name: tier.free_bytes for tier in places}
    disks = [
        disk(f"vm{i:02}", dice.choice(["fast", "middle", "slow"]), dice.expovariate(0.2), dice.choice([0.5, 1, 4]))
        for i in range(dice.randint(1, 40))
    ]
    found = plan(disks, places, SETTINGS)
    assert len({move.name for move in found.moves}) == len(found.moves)
    assert {move.name for move in found.moves} | set(found.stays) >= {
        d.disk.name for d in disks if d.disk.tier != "fast"
    }
    for move in found.moves:
        room[move.to_tier] -= move.size_bytes
        assert room[move.to_tier] >= 0
        room[move.from_tier] += move.size_bytes
    gain = sum(move.gain_seconds for move in found.moves)
    assert gain >= SETTINGS.gain_ratio * sum(move.cost_seconds for move in found.moves)


def test_five_thousand_disks_are_planned_at_once() -> None:
    dice = random.Random(1)
    disks = [disk(f"vm{i:04}", dice.choice(["fast", "slow"]), dice.expovariate(1), 1) for i in range(5000)]
    found = plan(disks, tiers(fast=10), SETTINGS)
    assert len(found.moves) + len(found.stays) == 5000


def test_where_nothing_is_freed_nobody_makes_room() -> None:
    settings = TierSettings(bytes_per_s=100 << 20, keep_free_bytes=10 * GIB)
    disks = [disk(f"cold{i}", "fast", 0, 4) for i in range(8)] + [disk("busy", "slow", 50, 2)]
    keeps = replace(settings, removes_old=False)
    assert moves(disks, tiers(fast=3), keeps) == []
    stuck = (replace(tiers(fast=3)[0], why_kept="/fast cannot be written to"), tiers()[1])
    assert moves(disks, stuck, settings) == []
    assert len(moves(disks, tiers(fast=3), settings)) > 2


def test_who_has_made_room_is_not_moved_again() -> None:
    """Found by the test of all seeds below, of which a few thousand are tried here."""
    for seed in range(1500):
        test_no_tier_is_ever_overfull_and_every_change_pays.hypothesis.inner_test(seed)  # type: ignore[attr-defined]
