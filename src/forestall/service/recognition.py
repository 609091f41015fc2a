"""Beside the loop: which application runs in each VM, by its behaviour, and by its traffic, heard now and then."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from forestall.model.applications import CATEGORIES, CLAIMS, UNKNOWN
from forestall.model.errors import in_one_line
from forestall.ports.traffic import Taps, TrafficEar
from forestall.ports.vectors import VectorBatch, VectorKind
from forestall.profiling.applications import ApplicationModel, features_of
from forestall.profiling.signature import Recogniser, Signature

ROUND_SECONDS, ROUND_VMS = 30.0, 8
NEW_ROUNDS, PUZZLING_ROUNDS, AGAIN_ROUNDS = 3, 15, 10
"""A VM is listened to in its first rounds, more of them while it serves what is not recognised (most protocols can be
told at the beginning of a connection alone), and then after so many again."""
KEEP_ROUNDS = 2
CLOSE_SECONDS = 1.0
NAMES = tuple(f"{source}_{claim}" for source in ("traffic", "behaviour", "together") for claim in CLAIMS)
"""Features of vectors of the kind ``signature``."""
LETS_GO_RATIO = 0.7


class Turns(NamedTuple):
    """How often a VM was listened to, and in which round last."""

    rounds: int
    last: int


NO_TURNS = Turns(0, 0)


class Recognition:
    """Recognises the applications of a host's VMs, in a thread of its own.

    Parameters
    ----------
    model
        Tells by behaviour.
    ear
        Listens to traffic; None: nobody does.
    key_of
        The key of a trust group, by its name: names that VMs are asked for are known only hashed with it.
    group_of
        Name of each VM's trust group.
    keep
        Takes vectors.
    now
        The clock that vectors are dated by.
    note
        Takes one line for the operator.
    """

    def __init__(
        self,
        model: ApplicationModel,
        ear: TrafficEar | None,
        key_of: Callable[[str], bytes],
        group_of: Callable[[Sequence[str]], Sequence[str]],
        keep: Callable[[VectorBatch], None],
        now: Callable[[], float],
        note: Callable[[str], None],
    ) -> None:
        self._model, self._ear, self._key_of, self._group_of = model, ear, key_of, group_of
        self._keep, self._now, self._note = keep, now, note
        self._known: dict[str, Recogniser] = {}
        self._taps: Mapping[str, Taps] = {}
        self._rounds = 0
        self._suspects: set[str] = set()
        self._turns: dict[str, Turns] = {}
        self._probability = math.nan
        self._recognised: dict[str, str] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="recognition", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """End; what a listening that is under way would have told is lost."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def follow(self, vm_ids: Sequence[str], taps: Mapping[str, Taps]) -> None:
        """These VMs run now, with these taps; others are forgotten, and who was another VM of the same name."""
        with self._lock:
            here = set(vm_ids)
            for vm_id in list(self._known):
                before, now = self._taps.get(vm_id), taps.get(vm_id)
                if vm_id not in here or (before and now and before.identity != now.identity):
                    for known in (self._known, self._turns, self._recognised):
                        known.pop(vm_id, None)
                    self._suspects.discard(vm_id)
            self._taps = {vm_id: mine for vm_id, mine in taps.items() if vm_id in here}
            for vm_id in here:
                self._known.setdefault(vm_id, Recogniser())

    def behave(self, batch: VectorBatch) -> None:
        """Take in how VMs behaved."""
        claims = self._model.probabilities(features_of(batch.names, batch.values.astype(np.float64)))
        with self._lock:
            for vm_id, mine in zip(batch.vm_ids, claims, strict=True):
                if vm_id in self._known:
                    self._known[vm_id].behave(mine)

    def signatures(self) -> dict[str, Signature]:
        """What is known of each VM that runs."""
        with self._lock:
            return {vm_id: known.signature() for vm_id, known in sorted(self._known.items())}

    def recognised(self, probability: float) -> dict[str, str]:
        """Category of each VM in which one has that probability, or had it and has not lost much of it."""
        signatures = self.signatures()
        with self._lock:
            if probability != self._probability:
                self._probability, self._recognised = probability, {}
            for vm_id, signature in signatures.items():
                application, found = signature.application
                before = self._recognised.get(vm_id, UNKNOWN)
                if application != UNKNOWN and found >= probability:
                    self._recognised[vm_id] = application
                elif signature.together[CLAIMS.index(before)] < LETS_GO_RATIO * probability:
                    self._recognised.pop(vm_id, None)
            return dict(self._recognised)

    def listen(self) -> None:
        """One round: listen to those whose turn it is; those of a round that failed are listened to one at a time."""
        self._rounds += 1
        try:
            self._hear()
        finally:
            if self._rounds % KEEP_ROUNDS == 0 and not self._stop.is_set():
                self.keep_signatures()

    def _hear(self) -> None:
        with self._lock:
            taps = {vm_id: self._taps[vm_id] for vm_id in self._next()}
            for vm_id in taps:  # also if it fails
                self._turns[vm_id] = Turns(self._turns.get(vm_id, NO_TURNS).rounds + 1, self._rounds)
        if self._ear is None or not taps:
            return
        groups = self._group_of(list(taps))
        keys = {vm_id: self._key_of(group) for vm_id, group in zip(taps, groups, strict=True)}
        self._suspects |= taps.keys()
        heard = self._ear.listen(taps, keys)
        self._suspects -= taps.keys()
        if self._stop.is_set():
            return
        with self._lock:
            for vm_id, flows in heard.items():
                if vm_id in self._known and self._taps.get(vm_id) == taps[vm_id]:
                    self._known[vm_id].hear(flows)

    def keep_signatures(self) -> None:
        """Hand on what is known now, as vectors."""
        found = {vm_id: signature for vm_id, signature in self.signatures().items() if signature.together[-1] < 1.0}
        if not found:
            return
        values = np.array([np.concatenate([s.traffic, s.behaviour, s.together]) for s in found.values()])
        at = np.full(len(found), int(self._now()), np.int64)
        self._keep(VectorBatch(VectorKind.SIGNATURE, NAMES, tuple(found), at, values.astype(np.float32)))

    def _next(self) -> list[str]:
        """Who is listened to in this round: several, or one whose traffic may have been what made a round fail."""
        due = self._due()
        if due and due[0] in self._suspects:
            return due[:1]
        return [vm_id for vm_id in due if vm_id not in self._suspects][:ROUND_VMS]

    def _due(self) -> list[str]:
        """Who is listened to next: the new first, then who was not for longest."""
        due = []
        for vm_id in self._taps:
            rounds, last = self._turns.get(vm_id, NO_TURNS)
            first = PUZZLING_ROUNDS if vm_id in self._known and self._known[vm_id].is_puzzling else NEW_ROUNDS
            if rounds < first or self._rounds - last >= AGAIN_ROUNDS:
                due.append((last, vm_id))
        return [vm_id for _, vm_id in sorted(due)]

    def _run(self) -> None:
        while not self._stop.wait(ROUND_SECONDS):
            try:
                self.listen()
            except Exception as error:  # whatever it is: nobody would begin again
                if self._stop.is_set():
                    return  # nobody is there to hear it
                self._note(f"applications are not recognised: {in_one_line(error)}")


def described(vm_id: str, signature: Signature, tag: str | None) -> dict[str, Any]:
    """A VM's signature for people; ``tag`` is what rules take it for."""

    def shares(claims: Any) -> dict[str, float] | None:
        return dict(zip(CLAIMS, claims.round(4).tolist(), strict=True)) if np.isfinite(claims).all() else None

    application, probability = signature.application
    return {
        "vm_id": vm_id,
        "application": application,
        "probability": round(probability, 4),
        "traffic": shares(signature.traffic),
        "behaviour": shares(signature.behaviour),
        "together": shares(signature.together),
        "protocols": {name: round(seen) for name, seen in signature.protocols.items()},
        "names": {name: round(seen) for name, seen in signature.names.items()},
        "tag": tag,
    }


def summed_up(signatures: Mapping[str, Signature], groups: Sequence[str], least_vms: int) -> list[dict[str, Any]]:
    """What may leave a trust group: how many VMs run each application, where they are at least ``least_vms``.

    Parameters
    ----------
    signatures
        Of all VMs.
    groups
        Name of the trust group of each, in the same order.
    least_vms
        A number of fewer VMs is not told, nor what it is of.
    """
    rows = []
    for group in sorted(set(groups)):
        mine = [s.application for s, name in zip(signatures.values(), groups, strict=True) if name == group]
        for category in (*CATEGORIES, UNKNOWN):
            found = [probability for application, probability in mine if application == category]
            if len(found) >= least_vms:
                mean = round(float(np.mean(found)), 4)
                rows.append({"trust_group": group, "application": category, "vms": len(found), "probability": mean})
    return rows
