"""Anomaly is not demand: which VMs of a loop behave anomalously, watched over all resources together.

Anomalies are looked for in means of five minutes, however short the step: a second of something unusual is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from forestall.demand.warming import PROBE_ROWS, Steady
from forestall.learning.past import floor_of, plausible
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray, Trace
from forestall.profiling.anomaly import KINDS, LOOKS, Anomalies, AnomalySettings, Watch
from forestall.profiling.window import retained

LEAST_SECONDS = 300
LEAST_SHARE = 0.1


class Score(NamedTuple):
    """How unusual a VM is: 0 (as ever) to 1; and the share that each resource has in it."""

    value: float
    causes: Mapping[Resource, float]

    def in_words(self) -> str:
        """For people: ``score 0.98: net_tx 0.71, cpu 0.25``."""
        named = sorted(self.causes.items(), key=lambda pair: -pair[1])
        told = ", ".join(f"{resource.value} {share:.2f}" for resource, share in named if share >= LEAST_SHARE)
        return f"score {self.value:.2f}{': ' if told else ''}{told}"


class Watching:
    """Watches the VMs of a roster.

    Parameters
    ----------
    resources
        Axis 1 of what is seen.
    step_seconds
        Sampling step of the loop.
    settings
        When a VM counts as anomalous.
    """

    def __init__(
        self, resources: Sequence[Resource], step_seconds: int, settings: AnomalySettings | None = None
    ) -> None:
        self.resources = tuple(resources)
        self._seen_seconds = step_seconds
        self.bucket_seconds = max(step_seconds, LEAST_SECONDS)
        self._watch = Watch(self.resources, [floor_of(r) for r in self.resources], self.bucket_seconds, settings)
        self._bucket: int | None = None
        self._sum: FloatArray = np.zeros((0, len(self.resources)))
        self._count: IntArray = np.zeros((0, len(self.resources)), np.int64)
        self._limit: FloatArray = np.zeros((0, len(self.resources)))
        self._ceiling: FloatArray | None = None
        self._now = Anomalies.none(len(self.resources))
        self._told: dict[str, str] = {}

    def anomalous(self, vms: int) -> BoolArray:
        """Which of the first ``vms`` VMs (vm,) are anomalous; those that were not seen yet are not."""
        known = self._now.anomalous[:vms]
        return np.pad(known, (0, vms - len(known)))

    def kinds(self) -> tuple[str, ...]:
        """How each VM's anomaly looks; empty for those that have none."""
        now = self._now
        return tuple(KINDS[k].value if on else "" for on, k in zip(now.anomalous, now.kind, strict=True))

    def scores(self, vm_ids: Sequence[str]) -> dict[str, Score]:
        """How unusual each VM is, and what causes it; ``vm_ids`` (vm,)."""
        now = self._now
        return {
            vm_id: Score(float(score), {r: float(share) for r, share in zip(self.resources, cause, strict=True)})
            for vm_id, score, cause in zip(vm_ids, now.score, now.cause, strict=False)
        }

    def by_name(self, vm_ids: Sequence[str]) -> dict[str, str]:
        """How the anomaly looks of each VM that has one; ``vm_ids`` (vm,)."""
        return {vm_id: kind for vm_id, kind in zip(vm_ids, self.kinds(), strict=False) if kind}

    def step(self, demand: FloatArray, limit: FloatArray, at: int, ceiling: FloatArray | None = None) -> None:
        """See one step.

        Parameters
        ----------
        demand, limit
            Arrays (vm, resource), NaN demand for a gap. More VMs than before are new ones.
        at
            Start of its interval, seconds.
        ceiling
            Array (vm, resource): what VMs never get more of; None: the limits.
        """
        bucket = at // self.bucket_seconds
        if self._bucket is not None and bucket != self._bucket:
            self._close()
        self._bucket = bucket
        new = len(demand) - len(self._sum)
        self._sum = np.pad(self._sum, ((0, new), (0, 0)))
        self._count = np.pad(self._count, ((0, new), (0, 0)))
        self._now = self._now.padded(new)
        self._limit, self._ceiling = limit, ceiling
        seen = np.isfinite(demand)
        self._sum += np.where(seen, demand, 0.0)
        self._count += seen
        if (at + self._seen_seconds) // self.bucket_seconds > bucket:
            self._close()

    def warm(self, history: Trace, vm_ids: Sequence[str], steady: Steady, most_seconds: float) -> None:
        """Learn what is usual for ``vm_ids``, the beginning of the roster, from a trace at :attr:`bucket_seconds`.

        In at most so many seconds; what does not fit is left out from the older end.
        """
        place = {vm_id: k for k, vm_id in enumerate(history.vm_ids)}
        columns = np.array([place.get(vm_id, len(place)) for vm_id in vm_ids], dtype=np.int64)
        nothing = np.full((history.grid.steps, len(place)), np.nan)

        def of(values: FloatArray) -> FloatArray:
            return np.pad(values, ((0, 0), (0, 1)), constant_values=np.nan)[:, columns]

        demand = np.stack([of(history.demand.get(r, nothing)) for r in self.resources], axis=-1)
        limit = np.stack(
            [of(history.known_limit(r) if r in history.demand else nothing) for r in self.resources], axis=-1
        )
        steps, own, self._seen_seconds = history.grid.steps, self._seen_seconds, self.bucket_seconds
        probed, started = min(PROBE_ROWS, steps), steady()
        for i in range(probed):
            self.step(demand[i], limit[i], history.grid.at(i))
        cost = (steady() - started) / max(probed, 1)
        affordable = steps if cost <= 0 else int(most_seconds / cost)
        for i in range(max(probed, steps - affordable), steps):
            self.step(demand[i], limit[i], history.grid.at(i))
        self._seen_seconds = own
        self.news(vm_ids)

    def news(self, vm_ids: Sequence[str]) -> list[str]:
        """A line for each VM whose anomaly began, was named or ended since this was last asked; ``vm_ids`` (vm,)."""
        now = self.by_name(vm_ids)
        scores = self.scores(vm_ids)
        lines = [
            f"{vm_id}: behaves anomalously: {LOOKS[kind]} ({scores[vm_id].in_words()})"
            for vm_id, kind in now.items()
            if self._told.get(vm_id) != kind
        ]
        known = set(vm_ids)
        lines += [f"{vm_id}: behaves as usual again" for vm_id in self._told if vm_id not in now and vm_id in known]
        self._told = now
        return lines

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        self._watch.keep(rows)
        self._sum, self._limit = retained(self._sum, rows, 0), retained(self._limit, rows, 0)
        self._count = retained(self._count, rows, 0)
        self._ceiling = None if self._ceiling is None else retained(self._ceiling, rows, 0)
        self._now = self._now.kept(rows)

    def _close(self) -> None:
        """Judge the means of a bucket that is over."""
        if self._bucket is None:
            return
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(self._count > 0, self._sum / self._count, np.nan)
        self._now = self._watch.step(
            plausible(mean, self._limit), self._limit, self._bucket * self.bucket_seconds, self._ceiling
        )
        self._bucket = None
        self._sum, self._count = np.zeros_like(self._sum), np.zeros_like(self._count)


def anomalies_of(trace: Trace) -> BoolArray:
    """Which VMs of a trace were anomalous after each step (time, vm), as was known then."""
    watching = Watching(trace.resources, trace.grid.step_seconds)
    result = np.zeros((trace.grid.steps, len(trace.vm_ids)), dtype=bool)
    for row, seen in zip(result, trace.observations(), strict=True):
        watching.step(seen.demand, seen.limit, seen.at)
        row[: len(seen.vm_ids)] = watching.anomalous(len(seen.vm_ids))
    return result
