"""Beside the loop: what the loop itself sees of VMs, as vectors, and which application rules take each for.

VMs without an agent have no vectors of their own: theirs come from what the host measures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from forestall.demand.view import VmView
from forestall.demand.watching import Score
from forestall.model.errors import GuestError
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.ports.traffic import Taps
from forestall.ports.vectors import VectorBatch, VectorKind, VectorStore
from forestall.service.recognition import Recognition, described, summed_up

VECTOR_SECONDS, TAG_SECONDS, SCORE_SECONDS = 10.0, 120.0, 300.0
NAMES = tuple(resource.demand_column for resource in Resource)
"""Features of VMs without an agent."""
SCORE_NAMES = ("score", *(f"cause_{resource.value}" for resource in Resource))


class Tapped(Protocol):
    """Knows the taps of its VMs."""

    def taps(self) -> Mapping[str, Taps]:
        """Taps of each VM that runs and whose traffic can be heard from here."""
        ...


class Loop(Protocol):
    """What of the loop is needed here."""

    def views(self) -> list[VmView]:
        """Every VM and resource at the last cycle."""
        ...

    def anomaly_scores(self) -> Mapping[str, Score]:
        """How unusual each VM is."""
        ...

    def recognise(self, applications: Mapping[str, str]) -> Mapping[str, str]:
        """Let rules take VMs for what they were recognised as; which are taken so now."""
        ...

    @property
    def recognises_at(self) -> float | None:
        """Probability from which rules take a VM for what it is recognised as; None: they never do."""
        ...

    def trust_groups(self, vm_ids: Sequence[str]) -> tuple[str, ...]:
        """Name of each VM's trust group."""
        ...


class Outside:
    """Follows the loop.

    Parameters
    ----------
    loop, host
        What it sees, and how its VMs' traffic can be heard.
    recognition
        Recognises applications.
    speaking
        VMs with an agent that speaks.
    keep
        Takes vectors.
    now, steady
        The clock that vectors are dated by, and one that nobody sets, of the host's seconds.
    note
        Takes one line for the operator.
    vectors
        Where vectors are kept on this host; None: elsewhere.
    """

    def __init__(
        self,
        loop: Loop,
        host: Tapped,
        recognition: Recognition,
        speaking: Callable[[], Collection[str]],
        keep: Callable[[VectorBatch], None],
        now: Callable[[], float],
        steady: Callable[[], float],
        note: Callable[[str], None],
        vectors: VectorStore | None = None,
    ) -> None:
        self._vectors = vectors
        self._loop, self._host, self._recognition, self._speaking = loop, host, recognition, speaking
        self._keep, self._now, self._steady, self._note = keep, now, steady, note
        self._sums: dict[str, list[FloatArray]] = {}
        self._vectors_at, self._scores_at, self._tags_at = steady(), float("-inf"), float("-inf")
        self._tags: Mapping[str, str] = {}

    def turn(self) -> None:
        """After a cycle."""
        seen = _by_vm(self._loop.views())
        self._recognition.follow(tuple(seen), self._host.taps())
        if self._steady() - self._tags_at >= TAG_SECONDS:  # who is taken for something else costs a look at all rules
            self._tags_at = self._steady()
            self._tag()
        speaking = self._speaking()
        self._gather({vm_id: values for vm_id, values in seen.items() if vm_id not in speaking})
        if self._steady() - self._scores_at >= SCORE_SECONDS:
            self._scores_at = self._steady()
            self._keep_scores()

    def applications(self) -> list[dict[str, Any]]:
        """Which application runs in each VM, for people."""
        found = self._recognition.signatures()
        return [described(vm_id, signature, self._tags.get(vm_id)) for vm_id, signature in found.items()]

    def summed_up(self, least_vms: int) -> list[dict[str, Any]]:
        """How many VMs of each trust group run each application, where they are at least so many, and two."""
        found = self._recognition.signatures()
        return summed_up(found, self._loop.trust_groups(tuple(found)), max(least_vms, 2))

    def profile(self, vm_id: str) -> Mapping[str, Any]:
        """How a VM is at each hour of the week: for each feature 168 means, Monday 0:00 UTC first."""
        if self._vectors is None:
            raise GuestError("vectors are kept by the controller: [controller] url")
        profile = self._vectors.profile(vm_id)
        if not profile.names:
            raise GuestError(f"{vm_id}: no vector is kept")
        means = {name: profile.mean[:, place].tolist() for place, name in enumerate(profile.names)}
        return {"vm_id": vm_id, "vectors": profile.vectors.tolist(), "mean": means}

    def close(self) -> None:
        """End."""
        self._recognition.close()

    def _tag(self) -> None:
        """Tell the loop what VMs were recognised as, and the operator what changes by that."""
        least = self._loop.recognises_at
        tags = self._loop.recognise({} if least is None else self._recognition.recognised(least))
        for vm_id in sorted(tags.keys() | self._tags.keys()):
            if vm_id in tags and tags[vm_id] != self._tags.get(vm_id):
                self._note(f"{vm_id}: rules take it for {tags[vm_id]!r}, which was recognised")
            elif vm_id not in tags:
                self._note(f"{vm_id}: rules do not take it for {self._tags[vm_id]!r} any more")
        self._tags = tags

    def _gather(self, seen: Mapping[str, FloatArray]) -> None:
        """Means of what was seen of VMs without an agent since their last vectors."""
        for vm_id, values in seen.items():
            self._sums.setdefault(vm_id, []).append(values)
        if self._steady() - self._vectors_at < VECTOR_SECONDS:
            return
        self._vectors_at = self._steady()
        sums, self._sums = self._sums, {}
        if sums:
            means = np.stack([_mean(np.stack(values)) for values in sums.values()])
            at = np.full(len(sums), int(self._now()), np.int64)
            self._keep(VectorBatch(VectorKind.PROFILE, NAMES, tuple(sums), at, means.astype(np.float32)))

    def _keep_scores(self) -> None:
        """How unusual each VM is, and what causes it."""
        scores = self._loop.anomaly_scores()
        if not scores:
            return
        rows = [[score.value, *(score.causes.get(r, np.nan) for r in Resource)] for score in scores.values()]
        at = np.full(len(rows), int(self._now()), np.int64)
        self._keep(VectorBatch(VectorKind.SCORE, SCORE_NAMES, tuple(scores), at, np.array(rows, np.float32)))


def _by_vm(views: Iterable[VmView]) -> dict[str, FloatArray]:
    """What was seen of each VM (resource,); NaN where nothing was."""
    found: dict[str, FloatArray] = {}
    for view in views:
        row = found.setdefault(view.vm_id, np.full(len(NAMES), np.nan))
        row[NAMES.index(view.resource.demand_column)] = view.seen
    return found


def _mean(values: FloatArray) -> FloatArray:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
