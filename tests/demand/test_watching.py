"""Anomaly is not demand: a VM that runs away is held to its anomaly ceiling, and the operator is told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from live_host import CPU, GIB, MEMORY, SETTINGS, LiveHost

from forestall.cli import main
from forestall.demand.policy import PolicySet, Terms
from forestall.demand.warming import WarmingSettings
from forestall.demand.watching import Watching, anomalies_of
from forestall.model.samples import FloatArray, Grid, Trace
from forestall.ports.store import SampleBatch

STEP, DAY = 300, 288
KNOWN = 3 * DAY + 40
HELD = PolicySet(defaults=Terms(anomaly_ceiling_ratio=0.5))


def trace_with_a_runaway() -> Trace:
    """Three VMs that use a core of four; after three days vm-1 takes all it can get for three hours."""
    generator = np.random.default_rng(2)
    shape = (KNOWN + 80, 3)
    cpu = generator.gamma(30.0, 1 / 30.0, shape)
    cpu[100:KNOWN:DAY, 1] = 2.0  # as much as an anomaly ceiling of half the limit: no record then
    cpu[KNOWN + 5 : KNOWN + 41, 1] = 3.9
    memory = GIB * (1 + 0.01 * generator.standard_normal(shape))
    limits = {CPU: np.full(shape, 4.0), MEMORY: np.full(shape, 8 * GIB)}
    return Trace(Grid(0, STEP, shape[0]), tuple(f"vm-{i}" for i in range(3)), {CPU: cpu, MEMORY: memory}, limits)


def live_host(policies: PolicySet | None) -> LiveHost:
    """A host whose store knows the days before."""
    trace = trace_with_a_runaway()
    demand = replace(SETTINGS.demand, step_seconds=STEP)
    warming = WarmingSettings(most_rows=200, stepped_rows=20)
    settings = replace(SETTINGS, demand=demand, lease_seconds=3 * STEP, warming=warming)
    settings = replace(settings, health=replace(settings.health, stale_seconds=3 * STEP))
    live = LiveHost(trace=trace, settings=settings, policies=policies)
    live.clock.advance(KNOWN * STEP)
    resources = tuple(trace.demand)
    live.store.append(
        [
            SampleBatch(
                trace.grid.at(i),
                trace.vm_ids,
                resources,
                np.stack([trace.demand[r][i] for r in resources], axis=1),
                np.stack([trace.limit[r][i] for r in resources], axis=1),
            )
            for i in range(KNOWN)
        ]
    )
    live.driver.start()
    return live


def test_a_vm_that_runs_away_is_held_and_told_of_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    live, ceilings = live_host(HELD), []
    step = Watching.step

    def spied(self: Watching, demand: FloatArray, limit: FloatArray, at: int, ceiling: FloatArray) -> None:
        ceilings.append(ceiling[:, 0].tolist())
        step(self, demand, limit, at, ceiling)

    monkeypatch.setattr(Watching, "step", spied)
    most = [live.run().held()[1] for _ in range(14)][-1]
    assert most <= 2.0, "its anomaly ceiling, half of four cores"
    (told,) = [line for line in live.notes if line.startswith("vm-1: behaves anomalously: ")]
    assert "runaway: CPU at its limit or beyond all that it was before, for longer than ever (score " in told
    assert re.search(r": cpu (0\.[5-9]|1\.0)", told), told
    assert dict(live.driver.view().anomalies) == {"vm-1": "runaway"}
    decision = live.journal.explain("vm-1")[0]
    assert decision.reason.startswith("behaves anomalously (runaway)")
    assert decision.ceiling == 2.0
    assert ceilings[0] == [4.0] * 3
    assert ceilings[-1] == [4.0, 2.0, 4.0], "what it takes is looked at with what it is held to in mind"
    live.run(22)
    assert dict(live.driver.view().anomalies) == {"vm-1": "runaway"}, "as long as it takes all that it is held to"
    assert "vm-1: behaves as usual again" not in live.notes
    live.run(28)
    assert "vm-1: behaves as usual again" in live.notes
    assert not live.driver.view().anomalies
    assert not [line for line in live.notes if line.startswith(("vm-0", "vm-2"))]


def test_without_such_a_policy_it_is_told_of_and_fed() -> None:
    live = live_host(None).run(14)
    assert live.held()[1] > 3.0
    assert dict(live.driver.view().anomalies) == {"vm-1": "runaway"}


def test_short_steps_are_judged_in_means_of_five_minutes() -> None:
    trace = trace_with_a_runaway()
    slow, fast = Watching((CPU, MEMORY), STEP), Watching((CPU, MEMORY), 60)
    for i in range(KNOWN, KNOWN + 60):
        row = np.stack([trace.demand[r][i] for r in (CPU, MEMORY)], axis=1)
        limit = np.stack([trace.limit[r][i] for r in (CPU, MEMORY)], axis=1)
        slow.step(row, limit, i * STEP)
        for k in range(5):
            fast.step(row, limit, i * STEP + 60 * k)
        np.testing.assert_allclose(fast._now.score, slow._now.score, rtol=1e-9)


def test_a_replay_with_such_a_policy_holds_it_too(tmp_path: Path) -> None:
    from forestall.replay.trace_writer import write_trace

    trace = trace_with_a_runaway()
    assert anomalies_of(trace)[KNOWN + 5 : KNOWN + 41, 1].any()
    write_trace(trace, tmp_path / "t.parquet")
    (tmp_path / "p.toml").write_text("[defaults]\nanomaly_ceiling_ratio = 0.5\n")
    arguments = ["replay", "demand", str(tmp_path / "t.parquet"), "--resources", "cpu", "--without", "recurrent"]
    arguments += ["--evaluate-from", str(KNOWN * STEP), "--quiet"]
    arguments += ["--policies", str(tmp_path / "p.toml"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    found = pd.read_parquet(tmp_path / "out" / "allocations.parquet")
    mine = found[(found.vm_id == "vm-1") & (found.timestamp >= (KNOWN + 12) * STEP)]
    most = mine[mine.timestamp < (KNOWN + 41) * STEP].allocated.max()
    assert most == pytest.approx(2.0), "of the 3.9 cores that it takes"
