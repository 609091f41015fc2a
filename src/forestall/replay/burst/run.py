"""The burst loop through a recorded trace, in virtual time.

A decision for a window uses rows of windows that ended before it begins. The first window is decided on nothing: the
whole host is reserved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forestall.burst.core import BurstLoop
from forestall.burst.settings import BurstSettings, beats_of
from forestall.learning.peaks.model import LEVELS, PeakModel
from forestall.model.samples import FloatArray
from forestall.replay.burst.trace import BurstTrace
from forestall.replay.burst.windows import known_vms

Tick = Callable[[int], None]


@dataclass(frozen=True)
class BurstRun:
    """What was decided.

    Attributes
    ----------
    granted
        Array (budget, decision, vm), cores; NaN for VMs that were not known yet. The last decision is for the window
        after the last whole one.
    pool_quantiles
        Array (decision, level): forecast of the pool's peak in each window; NaN for the first.
    own_quantiles
        Array (decision, vm, level).
    experts
        Names, and the trust in each for the pool after the last decision.
    """

    granted: FloatArray
    pool_quantiles: FloatArray
    own_quantiles: FloatArray
    experts: dict[str, float]


def run_burst(
    trace: BurstTrace,
    per_decision: int,
    cores: float,
    budgets: tuple[float, ...],
    model: PeakModel | None,
    *,
    pooled: bool,
    seed: int = 0,
    tick: Tick = lambda decisions: None,
) -> BurstRun:
    """Replay the burst loop.

    Parameters
    ----------
    trace
        The trace.
    per_decision
        Windows of the trace in a decision window.
    cores
        What the host has; also the frame of each VM.
    budgets
        Violation budgets, side by side.
    model
        The recurrent expert; None: do without.
    pooled
        Whether the VMs share what is reserved.
    seed
        Of everything that is random.
    tick
        Called now and then with the number of decisions taken since the last call.
    """
    per_beat = beats_of(per_decision * trace.window_us, trace.window_us)
    settings = BurstSettings(cores, per_beat * trace.window_us, per_decision // per_beat, budgets, pooled, seed=seed)
    loop = BurstLoop(settings, model)
    use, known = trace.known, known_vms(trace, per_decision)
    decisions = len(known)
    run = _empty(decisions, len(trace.vm_ids), len(budgets))
    run.granted[:, 0, : known[0]] = cores / known[0]
    for i in range(1, decisions):
        vms = int(known[i])
        # In one piece, so that it does not matter how many VMs come later.
        seen = np.ascontiguousarray(use[(i - 1) * per_decision : i * per_decision, :vms]).reshape(-1, per_beat, vms)
        for beat in seen:
            loop.take_in(beat.mean(axis=0), beat.max(axis=0), float(beat.sum(axis=1).max()))
        cycle = loop.decide(np.full(vms, cores))
        loop.learn()
        run.granted[:, i, :vms] = cycle.reserved
        run.pool_quantiles[i] = cycle.quantiles[0, 0]
        run.own_quantiles[i, :vms] = cycle.quantiles[0, 1:]
        if i % 64 == 0 or i + 1 == decisions:
            tick((i - 1) % 64 + 1)
    trust = loop.forecaster.weights(0)[:, 0].mean(axis=-1)
    run.experts.update(zip(loop.forecaster.experts, map(float, trust), strict=True))
    return run


def _empty(decisions: int, vms: int, budgets: int) -> BurstRun:
    return BurstRun(
        granted=np.full((budgets, decisions, vms), np.nan),
        pool_quantiles=np.full((decisions, len(LEVELS)), np.nan),
        own_quantiles=np.full((decisions, vms, len(LEVELS)), np.nan),
        experts={},
    )
