"""Which VMs behave anomalously, and how it looks from outside.

Two things make a VM anomalous. Its surprise (:mod:`forestall.profiling.surprise`) is high, and high for this VM: one
that surprises every day is surprising, not anomalous. Or something of a known kind goes on for longer than it ever did:
CPU at its limit, memory higher than ever, traffic without work, silence. Records need no threshold that would have to
fit every VM, and are easily explained. An anomaly ends when neither holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.runs import Highest, Runs
from forestall.profiling.surprise import Surprise, Surprises, SurpriseSettings
from forestall.profiling.window import retained


class Kind(StrEnum):
    """How an anomaly looks.

    =============  ==================================================================================
    ``leak``       memory climbs beyond all that it was before
    ``runaway``    CPU is at its limit, or beyond all that it was before, for longer than ever
    ``scan-like``  network or reads are beyond all that they were before, CPU is not: a scan, a copy
    ``silent``     a VM that is usually at work does next to nothing, for longer than ever
    ``unusual``    none of these
    =============  ==================================================================================
    """

    LEAK = "leak"
    RUNAWAY = "runaway"
    SCAN_LIKE = "scan-like"
    SILENT = "silent"
    UNUSUAL = "unusual"


KINDS = tuple(Kind)
LOOKS: dict[str, str] = {
    Kind.LEAK: "leak: memory climbs beyond all that it was before",
    Kind.RUNAWAY: "runaway: CPU at its limit or beyond all that it was before, for longer than ever",
    Kind.SCAN_LIKE: "scan-like: traffic or reads beyond all that they were before, CPU is not",
    Kind.SILENT: "silent: next to nothing of its usual work, for longer than ever",
    Kind.UNUSUAL: "unusual: far from what it did before",
}
"""Each kind in words."""
GONE_SECONDS = 3_600.0
"""A VM without samples for so long is not anomalous any more, and begins anew when it is back."""


@dataclass(frozen=True)
class AnomalySettings:
    """When a VM counts as anomalous.

    Attributes
    ----------
    begin, end
        Scores at which an anomaly begins and ends.
    own_deviations
        And its evidence is so many standard deviations above what is usual for this VM.
    young_days
        No VM is anomalous before it has been seen for so long: too little is known of what is usual.
    least_minutes
        What is of a known kind lasts at least so long: leak, runaway, scan-like, silent.
    times_longest
        And so many times as long as it ever did.
    beyond_ratio
        Times the highest before: that much is beyond it.
    full_ratio
        Share of the limit from which CPU is at its limit.
    silent_ratio
        Of what is usual: less is silence.
    half_life_days
        How fast records fade.
    """

    begin: float = 0.95
    end: float = 0.9
    own_deviations: float = 6.0
    young_days: float = 3.0
    least_minutes: tuple[float, float, float, float] = (60.0, 15.0, 15.0, 30.0)
    times_longest: float = 2.0
    beyond_ratio: float = 1.2
    full_ratio: float = 0.9
    silent_ratio: float = 0.1
    half_life_days: float = 14.0


@dataclass(frozen=True)
class Anomalies:
    """Arrays (vm,): score in [0, 1], whether the VM is anomalous, and position of the kind in :data:`KINDS`.

    ``cause`` (vm, resource) is which share each resource has in what is unusual.
    """

    score: FloatArray
    anomalous: BoolArray
    kind: IntArray
    cause: FloatArray

    @classmethod
    def none(cls, resources: int) -> Anomalies:
        """Of no VM."""
        return cls(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64), np.zeros((0, resources)))

    def padded(self, new: int) -> Anomalies:
        """With ``new`` VMs more, which are not anomalous."""
        return Anomalies(
            np.pad(self.score, (0, new)),
            np.pad(self.anomalous, (0, new)),
            np.pad(self.kind, (0, new)),
            np.pad(self.cause, ((0, new), (0, 0))),
        )

    def kept(self, rows: IntArray) -> Anomalies:
        """Of the VMs ``rows`` alone."""
        return Anomalies(
            retained(self.score, rows, 0),
            retained(self.anomalous, rows, 0),
            retained(self.kind, rows, 0),
            retained(self.cause, rows, 0),
        )


class Watch:
    """Watches all VMs.

    Parameters
    ----------
    resources
        What is watched, the order of channels.
    floors
        For each what does not matter, in its unit.
    step_seconds
        Sampling step.
    settings, surprise
        How.
    """

    def __init__(
        self,
        resources: Sequence[Resource],
        floors: Sequence[float],
        step_seconds: int,
        settings: AnomalySettings | None = None,
        surprise: SurpriseSettings | None = None,
    ) -> None:
        self.settings = settings or AnomalySettings()
        self._resources, self._floors = tuple(resources), np.asarray(floors, dtype=np.float64)
        self._surprise = Surprise(floors, surprise)
        self._memory = self._surprise.settings.memory_steps
        day = max(1, round(86_400 / step_seconds))
        self._day = day
        self._young = self.settings.young_days * day
        self._least = np.maximum(np.array(self.settings.least_minutes) * 60 / step_seconds, 1.0)
        self._runs = Runs(len(KINDS) - 1, self.settings.half_life_days * day)
        self._highest = Highest(len(self._resources), day, self.settings.half_life_days)
        self._gone_steps = max(1, round(GONE_SECONDS / step_seconds))
        self._absent: IntArray = np.zeros(0, np.int64)
        self._seen: IntArray = np.zeros(0, np.int64)
        self._usual: FloatArray = np.zeros((2, 0))
        self._now = Anomalies.none(len(self._resources))

    def step(self, demand: FloatArray, limit: FloatArray, now: int, ceiling: FloatArray | None = None) -> Anomalies:
        """See one step.

        Parameters
        ----------
        demand, limit
            Arrays (vm, resource); NaN demand is a gap. More VMs are new ones.
        now
            Start of its interval, seconds.
        ceiling
            Array (vm, resource): what VMs never get more of; None: the limits. What a VM was found at goes on, for a
            day at most, while it uses all of a ceiling below its limit: what it would take is not seen then.
        """
        self._grow(len(demand))
        known = np.isfinite(demand)
        present = np.asarray(known.any(axis=1))
        found = self._surprise.step(demand, now)
        self._seen += present
        self._absent = np.where(present, 0, self._absent + 1)
        gone = self._absent >= self._gone_steps
        self._runs.step(self._conditions(found, demand, limit, ceiling), present, gone)
        self._highest.step(found.level[1], known)
        old = self._seen > self._young
        of_kind = self._runs.unheard_of(self._least, self.settings.times_longest) & old
        surprising = (self._surprising(found, present) & old) | (
            self._now.anomalous & (found.score >= self.settings.end)
        )
        anomalous = (of_kind.any(axis=0) | surprising) & ~gone
        # What an anomaly was called stays its name until it ends, unless it had none.
        named = self._now.anomalous & (self._now.kind < len(KINDS) - 1)
        kind = np.where(of_kind.any(axis=0), of_kind.argmax(axis=0), len(KINDS) - 1)
        self._now = Anomalies(found.score, anomalous, np.where(named, self._now.kind, kind), found.cause)
        return self._now

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        for part in (self._surprise, self._runs, self._highest):
            part.keep(rows)
        self._usual, self._seen = retained(self._usual, rows, 1), retained(self._seen, rows, 0)
        self._absent = retained(self._absent, rows, 0)
        self._now = self._now.kept(rows)

    def _grow(self, vms: int) -> None:
        new = vms - len(self._seen)
        self._usual, self._seen = np.pad(self._usual, ((0, 0), (0, new))), np.pad(self._seen, (0, new))
        self._absent = np.pad(self._absent, (0, new))
        self._now = self._now.padded(new)

    def _surprising(self, found: Surprises, present: BoolArray) -> BoolArray:
        """Whether evidence and score are high (vm,); then the evidence of those that are present is learned."""
        mean, square = self._usual
        spread = np.maximum(np.sqrt(np.maximum(square - mean * mean, 0.0)), 0.05)
        high = found.evidence > mean + self.settings.own_deviations * spread
        rate = np.where(present, np.maximum(1.0 / self._memory, 1.0 / np.maximum(self._seen, 1)), 0.0)
        self._usual += rate * (np.stack([found.evidence, found.evidence**2]) - self._usual)
        return np.asarray((found.score >= self.settings.begin) & high & present)

    def _conditions(
        self, found: Surprises, demand: FloatArray, limit: FloatArray, ceiling: FloatArray | None
    ) -> BoolArray:
        """What of each kind (kind, vm) can be seen now; how long it lasts decides."""
        settings = self.settings
        result = np.zeros((len(KINDS) - 1, len(demand)), dtype=bool)
        of = {resource: k for k, resource in enumerate(self._resources)}
        beyond = np.zeros(demand.shape, dtype=bool)
        new = len(demand) - len(self._highest.value)
        highest = np.pad(self._highest.value, ((0, new), (0, 0)), constant_values=-np.inf)
        known = np.isfinite(highest) & np.isfinite(demand)
        beyond[known] = (found.level[1] > settings.beyond_ratio * highest + 10 * self._floors)[known]
        going_on = self._going_on(len(demand))
        at_work = [k for k, r in enumerate(self._resources) if r is not Resource.MEMORY]
        with np.errstate(invalid="ignore"):
            most = limit if ceiling is None else ceiling
            capped = (most < limit) & (demand >= settings.full_ratio * most)
            if (k := of.get(Resource.MEMORY)) is not None:
                climbs = beyond[:, k] & (found.level[2][:, k] > found.level[3][:, k])
                result[0] = climbs | (going_on[0] & capped[:, k])
            if (k := of.get(Resource.CPU)) is not None:
                full = demand[:, k] >= settings.full_ratio * limit[:, k]
                result[1] = beyond[:, k] | full | (going_on[1] & capped[:, k])
                traffic = [i for i in at_work if i != k]
                moves = beyond[:, traffic].any(axis=1) & ~beyond[:, k]
                result[2] = moves | (going_on[2] & capped[:, traffic].any(axis=1))
            counts = found.usual[:, at_work] > 10 * self._floors[at_work]
            quiet = demand[:, at_work] < settings.silent_ratio * found.usual[:, at_work]
            result[3] = (quiet | ~counts).all(axis=1) & counts.any(axis=1)
        return result

    def _going_on(self, vms: int) -> BoolArray:
        """What each VM (kind, vm) was found at and has been at for less than a day."""
        length = np.pad(self._runs.length, ((0, 0), (0, vms - self._runs.length.shape[1])))
        return np.asarray(self._now.anomalous & (length > 0) & (length < self._day))
