"""The arbiter: what it rejects, what it cuts, and in which order it acts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.demand.arbiter import Arbiter, ArbiterSettings, Standing, actions_of, fit
from forestall.model.decision import Proposal, Ruling, Verdict
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.hypervisor import Capability

CPU, MEMORY = Resource.CPU, Resource.MEMORY
MIB = 1024.0 * 1024
ACT = Standing(Mode.ENFORCE, limit=8.0, capability=Capability(0.0, 0.0))


def ask(desired: float, observed: float = 8.0, resource: Resource = CPU, vm_id: str = "web-1") -> Proposal:
    return Proposal(vm_id, resource, desired, observed, "because")


def rule(proposal: Proposal, standing: Standing = ACT, settings: ArbiterSettings | None = None) -> Verdict:
    return Arbiter(settings or ArbiterSettings()).rule(proposal, standing)


def test_what_may_be_changed_is() -> None:
    verdict = rule(ask(2.0))
    assert (verdict.ruling, verdict.granted) == (Ruling.ACCEPTED, 2.0)


@pytest.mark.parametrize(
    ("standing", "proposal", "reason"),
    [
        (replace(ACT, mode=Mode.OBSERVE, why="the clock jumped"), ask(2.0), "observe: the clock jumped"),
        (replace(ACT, mode=Mode.ADVISE), ask(2.0), "advise: would be set to 2"),
        (replace(ACT, capability=None), ask(2.0), "cpu cannot be moved on this VM"),
        (replace(ACT, capability=Capability(0, 0, "no quota here")), ask(2.0), "no quota here"),
        (replace(ACT, cold=True), ask(2.0), "seen too short a time: stays as it is"),
        (replace(ACT, sampled=False), ask(2.0), "no sample of the newest interval: stays as it is"),
        (ACT, ask(math.nan), "nothing is known of it yet"),
        (ACT, ask(2.0, math.nan), "nothing is known of it yet"),
        (ACT, ask(2.0, vm_id="db-1"), "not among the chosen VMs"),
    ],
)
def test_what_must_not_be_changed_stays_with_a_reason(standing: Standing, proposal: Proposal, reason: str) -> None:
    verdict = rule(proposal, standing, ArbiterSettings(chosen=("web-*",)))
    assert (verdict.ruling, verdict.reason) == (Ruling.REJECTED, reason)
    assert verdict.granted == proposal.observed or math.isnan(proposal.observed)
    assert actions_of([verdict]) == ([], [])


def test_floors() -> None:
    settings = ArbiterSettings(floor_share=0.05, floor_cores=0.1)
    assert rule(ask(0.01), settings=settings).granted == 0.4
    assert rule(ask(0.01), replace(ACT, limit=1.0), settings).granted == 0.1
    assert rule(ask(0.01), replace(ACT, floor=2.0), settings).granted == 2.0
    verdict = rule(ask(0.01), replace(ACT, limit=0.05), settings)
    assert (verdict.ruling, verdict.granted) == (Ruling.CLIPPED, 0.05), "no floor is above the limit"
    assert verdict.reason == "the floor"


def test_the_limit_and_the_step() -> None:
    assert rule(ask(9.0, 4.0)).granted == 8.0
    stepped = replace(ACT, capability=Capability(0.25, 0.0))
    assert rule(ask(1.1), stepped).granted == 1.25
    assert rule(ask(1.1, 1.25), stepped).reason == "in force already"


def test_memory_is_given_back_in_bites_and_never_below_what_is_used() -> None:
    held = 4096 * MIB
    standing = replace(ACT, limit=held, demand=1000 * MIB)
    bite = rule(ask(1200 * MIB, held, MEMORY), standing)
    assert (bite.granted, bite.reason) == (pytest.approx(0.9 * held), "gives back in several bites")
    used = rule(ask(900 * MIB, 1200 * MIB, MEMORY), standing)
    assert (used.granted, used.reason) == (pytest.approx(1150 * MIB), "what is used now and a margin")
    assert rule(ask(4000 * MIB, 1200 * MIB, MEMORY), standing).granted == 4000 * MIB, "a raise is not bitten"


def test_canaries_are_a_share_and_always_the_same() -> None:
    names = [f"vm-{i}" for i in range(2000)]
    few, more = (Arbiter(ArbiterSettings(canary_share=share)) for share in (0.1, 0.5))
    chosen = {name for name in names if few.is_canary(name)}
    assert 140 < len(chosen) < 260
    assert chosen <= {name for name in names if more.is_canary(name)}, "who is in a small share is in a larger one"
    canary, other = sorted(chosen)[0], next(name for name in names if name not in chosen)
    standing = replace(ACT, mode=Mode.CANARY)
    assert few.rule(ask(2.0, vm_id=canary), standing).granted == 2.0
    assert few.rule(ask(2.0, vm_id=other), standing).reason == "not a canary: would be set to 2"


def test_what_gives_back_comes_before_what_takes() -> None:
    verdicts = [rule(ask(desired, 4.0, vm_id=f"vm-{i}")) for i, desired in enumerate((6.0, 2.0, 4.0, 3.0))]
    backs, takes = actions_of(verdicts)
    assert [(a.vm_id, a.amount) for a in backs] == [("vm-1", 2.0), ("vm-3", 3.0)]
    assert [(a.vm_id, a.amount) for a in takes] == [("vm-0", 6.0)]


def test_raises_are_cut_to_what_the_pool_has_left() -> None:
    verdicts = [rule(ask(desired, observed)) for desired, observed in ((6.0, 2.0), (1.0, 3.0), (4.0, 2.0))]
    fitted = fit(verdicts, capacity=10.0, counted=1.0)
    assert [v.granted for v in fitted] == [pytest.approx(2 + 4 * 2 / 3), 1.0, pytest.approx(2 + 2 * 2 / 3)]
    assert fitted[0].reason == "the pool is full: cut to what is left"
    assert [v.granted for v in fit(verdicts, capacity=3.0)] == [2.0, 1.0, 2.0], "nobody is lowered for it"
    assert fit(verdicts, capacity=math.inf) == verdicts


amounts = st.floats(0.0, 64.0)


@given(
    st.lists(st.tuples(amounts, amounts, st.floats(0.1, 64.0), amounts), min_size=1, max_size=12),
    st.floats(0.0, 300.0),
    st.sampled_from([0.0, 0.25, 1.0]),
)
def test_a_pool_is_never_overdrawn_and_no_floor_is_crossed(
    rows: list[tuple[float, float, float, float]], capacity: float, step: float
) -> None:
    arbiter, verdicts, standings = Arbiter(), [], []
    for i, (desired, observed, limit, floor) in enumerate(rows):
        standing = Standing(Mode.ENFORCE, limit, min(floor, limit), capability=Capability(step, 0.0))
        standings.append(standing)
        verdicts.append(arbiter.rule(ask(desired, observed, vm_id=f"vm-{i}"), standing))
    fitted = fit(verdicts, capacity, step=step)
    held = sum(observed for _, observed, _, _ in rows)
    assert sum(v.granted for v in fitted) <= max(capacity, held) * (1 + 1e-6) + 1e-9
    for verdict, standing in zip(fitted, standings, strict=True):
        least = max(standing.floor, arbiter.settings.floor(CPU, standing.limit))
        lowered = verdict.granted < verdict.proposal.observed
        assert not lowered or verdict.granted >= least * (1 - 1e-6)
        assert verdict.reason
