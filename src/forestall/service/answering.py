"""What the daemon answers on its control socket."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from forestall import __version__
from forestall.demand.driver import Driver
from forestall.demand.explain import reproduce
from forestall.model.decision import Aftermath, Decision
from forestall.model.errors import StoreError, WrongUse
from forestall.ports.clock import Clock
from forestall.ports.journal import Journal
from forestall.ports.store import LATEST, BehaviourStore, Resolution
from forestall.service.exports import Exports
from forestall.service.guests import Guests, NoGuests
from forestall.service.lending import CoreLending
from forestall.service.outside import Outside
from forestall.service.policies import Policies
from forestall.service.shadowing import BLOCKS, Shadowing
from forestall.service.tiering import Tiering
from forestall.service.trust_groups import TrustGroups

BESIDE = frozenset({"history", "export", "copy-store", "apply-policy"})
"""Take long, and need no turn among others: they read the store, or a policy."""
MOST_STEPS = 20_000
"""Of history so many intervals are told at once."""


def plain(value: Any) -> Any:
    """The same value as JSON knows it: what is not a finite number is null."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, StrEnum):
        return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def explained(decision: Decision, after: Aftermath | None = None) -> dict[str, Any]:
    """A decision with what its formula gives and what came of it, as plain values."""
    came_of_it = asdict(after or Aftermath())
    if (outcome := came_of_it["outcome"]) is not None:
        outcome["amount"] = outcome.pop("action")["amount"]
    found: dict[str, Any] = plain(asdict(decision) | came_of_it | {"reproduced": reproduce(decision)})
    return found


def explained_of(journal: Journal, vm_id: str, at: int | None) -> list[dict[str, Any]]:
    """What the journal knows of a VM at an instant (None: now), a part for each resource."""
    after = journal.aftermath(vm_id, at)
    return [explained(decision, after.get(decision.resource)) for decision in journal.explain(vm_id, at)]


@dataclass
class Answering:
    """Answers requests about one driver, between its cycles.

    Attributes
    ----------
    turn
        Held by whoever uses the driver.
    connect, host
        Which hypervisor it is, and the name of its host.
    store
        What was measured.
    guests
        What runs inside VMs.
    outside
        What recognises their applications.
    lending
        Who lends and who borrows cores.
    groups, shadowing
        Trust groups, and who stages memory for them.
    tiering
        Who looks after disks on tiers.
    policies
        Versions of the policies.
    exports
        Writes what was measured into files.
    copying
        Writes a copy of the whole store into a file, and says which.
    """

    driver: Driver
    journal: Journal
    clock: Clock
    turn: threading.RLock
    connect: str
    host: str = ""
    store: BehaviourStore | None = None
    guests: Guests | NoGuests = field(default_factory=NoGuests)
    outside: Outside | None = None
    lending: CoreLending | None = None
    groups: TrustGroups | None = None
    shadowing: Shadowing | None = None
    tiering: Tiering | None = None
    policies: Policies | None = None
    exports: Exports | None = None
    copying: Callable[[], Path] | None = None

    def __post_init__(self) -> None:
        """Remember when it began."""
        self._started = self.clock.monotonic()
        self._large = threading.Lock()

    def __call__(self, request: Mapping[str, Any]) -> Any:
        """Answer one request with plain values."""
        command = request.get("command")
        known: dict[Any, Callable[[Mapping[str, Any]], Any]] = {
            "status": self._status,
            "vms": self._vms,
            "explain": self._explain,
            "forecast": self._forecast,
            "reliability": self._reliability,
            "history": self._history,
            "export": self._export,
            "copy-store": self._copy_store,
            "restore": self._restore,
            "resume": self._resume,
            "applications": self._applications,
            "trust-groups": self._trust_groups,
            "trust-group": self._trust_group,
            "shadowing": self._shadowing,
            "preallocate": self._preallocate,
            "preallocations": self._preallocations,
            "cancel-preallocation": self._cancel_preallocation,
            "tiers": lambda _: self._tiers().views(),
            "disk-moves": lambda _: self._tiers().moves(),
            "move-disk": lambda request: self._tiers().order(request),
            "cancel-disk-move": lambda _: self._tiers().cancel(),
            "policy": self._policy,
            "policies": lambda _: self._versions().views(),
            "apply-policy": self._apply_policy,
            "guests": lambda _: self.guests.states(),
            "guest": self._guest,
            "busiest": lambda request: self.guests.busiest(_vm(request)),
            "sequences": lambda request: self.guests.sequences(_vm(request)),
            "patterns": lambda request: self.guests.patterns(_vm(request)),
            "profile": lambda request: self._beside().profile(_vm(request)),
        }
        if command not in known:
            raise WrongUse(f"{command!r} is none of {', '.join(known)}")
        return plain(known[command](request))

    def _status(self, request: Mapping[str, Any]) -> Any:
        with self.turn:
            view = asdict(self.driver.view())
            cores = self.lending.status() if self.lending else {}
            staging = self.shadowing.status() if self.shadowing else {}
            blocks = self.shadowing.status(BLOCKS) if self.shadowing else {}
        view["cycle_seconds"] /= self.clock.pace
        return {
            "version": __version__,
            "pid": os.getpid(),
            "connect": self.connect,
            "host": self.host,
            "step_seconds": self.driver.settings.demand.step_seconds,
            "policy_version": self.policies.number if self.policies else 0,
            "uptime_seconds": (self.clock.monotonic() - self._started) / self.clock.pace,
            **view,
            "cores": cores,
            "staging": staging,
            "block_staging": blocks,
        }

    def _vms(self, request: Mapping[str, Any]) -> Any:
        names = _names(request)
        with self.turn:
            views = self.driver.views(None if names is None else set(names))
            vm_ids = list(dict.fromkeys(view.vm_id for view in views))
            groups = dict(zip(vm_ids, self.driver.trust_groups(vm_ids), strict=True))
        return [{**asdict(view), "host": self.host, "trust_group": groups[view.vm_id]} for view in views]

    def _explain(self, request: Mapping[str, Any]) -> Any:
        vm_id, at = request.get("vm"), request.get("at")
        if not isinstance(vm_id, str) or not (at is None or isinstance(at, int)):
            raise WrongUse("explain wants a vm, and at in whole seconds or not at all")
        return explained_of(self.journal, vm_id, at)

    def _forecast(self, request: Mapping[str, Any]) -> Any:
        vm_id = _vm(request)
        with self.turn:
            return [asdict(view) for view in self.driver.forecasts(vm_id)]

    def _reliability(self, request: Mapping[str, Any]) -> Any:
        with self.turn:
            return [asdict(view) for view in self.driver.reliability()]

    def _history(self, request: Mapping[str, Any]) -> Any:
        """Without the turn: the store is read beside the loop."""
        vm_id, since, until, resolution = _vm(request), *(request.get(key) for key in ("since", "until", "resolution"))
        if self.store is None:
            raise WrongUse("nothing is kept here")
        if not isinstance(since, int) or not isinstance(until, int) or resolution not in set(Resolution):
            raise WrongUse(f"history wants since and until in whole seconds, and a resolution: {', '.join(Resolution)}")
        steps = (until - since) // Resolution(resolution).bucket_seconds(self.store.step_seconds)
        if not 0 < steps <= MOST_STEPS:
            raise WrongUse(f"{steps} intervals: must be above 0 and at most {MOST_STEPS}; take a coarser resolution")
        asked: dict[str, Any] = {
            "since": since,
            "until": until,
            "resolution": Resolution(resolution),
            "vm_ids": [vm_id],
        }
        mean, peak = self.store.history(**asked), self.store.peaks(**asked)
        instants = [mean.grid.at(k) for k in range(mean.grid.steps)]
        return [
            {
                "resource": resource,
                "at": instants,
                "mean": mean.demand[resource][:, 0].tolist(),
                "peak": peak.demand[resource][:, 0].tolist(),
                "limit": mean.limit[resource][:, 0].tolist(),
            }
            for resource in mean.resources
            if mean.vm_ids
        ]

    def _export(self, request: Mapping[str, Any]) -> Any:
        """Without the turn, as history."""
        seconds, before = request.get("seconds"), request.get("before_seconds", 0)
        if self.exports is None:
            raise WrongUse("nothing is kept here")
        if not isinstance(seconds, int) or not isinstance(before, int) or not 0 < seconds < LATEST or before < 0:
            raise WrongUse("export wants seconds above 0, and before_seconds or not")
        with self._alone():
            found = self.exports.export(int(self.clock.now()), seconds, before)
        with self.turn:
            pools = self.driver.view().pools
        capacity = {pool.resource.value: pool.capacity for pool in pools if 0.0 < pool.capacity < math.inf}
        return {**found, "capacity": capacity, "violation_budget": self.driver.settings.demand.budgets[0]}

    def _copy_store(self, request: Mapping[str, Any]) -> Any:
        if self.copying is None:
            raise WrongUse("nothing is kept here")
        with self._alone():
            return {"path": str(self.copying())}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """What takes much memory, or time of the disk, is done once at a time."""
        if not self._large.acquire(blocking=False):
            raise StoreError("busy: history is being written already; try again soon")
        try:
            yield
        finally:
            self._large.release()

    def _restore(self, request: Mapping[str, Any]) -> Any:
        names = _names(request)
        with self.turn:
            if unknown := sorted(set(names or ()) - self.driver.known):
                raise WrongUse(f"no VM named {unknown[0]!r} is known here")
            result = self.driver.restore(names)
            if self.lending:
                self.lending.turn()  # who is to be left alone is put back by the burst loop, too
            if self.shadowing:
                self.shadowing.turn()
        if self.tiering:  # without the turn: it waits for libvirt
            self.tiering.give_up("its VM is left alone", names)
        return {"restored": list(result.done), "left": [list(pair) for pair in result.left]}

    def _resume(self, request: Mapping[str, Any]) -> Any:
        with self.turn:
            return {"resumed": list(self.driver.resume(_names(request)))}

    def _applications(self, request: Mapping[str, Any]) -> Any:
        least, outside = request.get("least_vms"), self._beside()
        if not (least is None or isinstance(least, int)):
            raise WrongUse("applications wants least_vms as a whole number, or not at all")
        with self.turn:
            return outside.applications() if least is None else outside.summed_up(least)

    def _trust_groups(self, request: Mapping[str, Any]) -> Any:
        with self.turn:
            return self._views()

    def _trust_group(self, request: Mapping[str, Any]) -> Any:
        if self.groups is None:
            raise WrongUse("trust groups cannot be changed here")
        with self.turn:
            self.groups.obey(request)
            if request.get("do") == "delete" and self.shadowing:
                self.shadowing.preallocations.forget_group(str(request["group"]))
            self.driver.set_policies(self.groups.policies())
            if self.shadowing:
                self.shadowing.turn()
            return self._views()

    def _policy(self, request: Mapping[str, Any]) -> Any:
        number = request.get("version")
        if not (number is None or isinstance(number, int)):
            raise WrongUse("policy wants a version as a whole number, or none")
        return self._versions().view(number)

    def _apply_policy(self, request: Mapping[str, Any]) -> Any:
        text, by, comment, base = (request.get(key) for key in ("text", "by", "comment", "base"))
        if not all(isinstance(each, str) for each in (text, by, comment)) or not (
            base is None or isinstance(base, int)
        ):
            raise WrongUse("apply-policy wants a text, by whom, a comment, and the version that it follows or none")
        # without the turn: reading takes a while
        done = self._versions().apply_and_view(str(text), str(by), str(comment), base)
        with self.turn:  # also where it came too late: the file may have been taken up before
            said = self._versions().in_force()
            self.driver.set_policies(self.groups.beside(said) if self.groups else said)
            if self.shadowing:
                self.shadowing.turn()
        return done

    def _versions(self) -> Policies:
        if self.policies is None:
            raise WrongUse("policies are not kept here")
        return self.policies

    def _views(self) -> list[dict[str, Any]]:
        """Every trust group, with the VMs that run here."""
        vm_ids = sorted(self.driver.known)
        groups = dict(zip(vm_ids, self.driver.trust_groups(vm_ids), strict=True))
        return self.groups.views(groups) if self.groups else []

    def _shadowing(self, request: Mapping[str, Any]) -> Any:
        least = request.get("least_vms", 1)
        if not isinstance(least, int):
            raise WrongUse("shadowing wants least_vms as a whole number, or not at all")
        group = request.get("group")
        if not (group is None or isinstance(group, str)):
            raise WrongUse("shadowing wants the name of a group, or none")
        with self.turn:
            return self._staging().statistics(least, group)

    def _preallocate(self, request: Mapping[str, Any]) -> Any:
        vm_id = _vm(request)
        with self.turn:
            if vm_id not in self.driver.known:
                raise WrongUse(f"no VM named {vm_id!r} is known here")
            return self._staging().request(vm_id, request)

    def _preallocations(self, request: Mapping[str, Any]) -> Any:
        with self.turn:
            self._staging().look()
            return self._staging().preallocations.views()

    def _cancel_preallocation(self, request: Mapping[str, Any]) -> Any:
        name = request.get("name")
        if not isinstance(name, str):
            raise WrongUse("which request?")
        with self.turn:
            return self._staging().cancel(name)

    def _staging(self) -> Shadowing:
        if self.shadowing is None:
            raise WrongUse("nothing is staged here: [staging] is off, or the daemon does not run as root")
        return self.shadowing

    def _tiers(self) -> Tiering:
        if self.tiering is None:
            raise WrongUse("there are no tiers here: [tiers] names none, or the daemon does not run as root")
        return self.tiering

    def _beside(self) -> Outside:
        if self.outside is None:
            raise WrongUse("nothing makes vectors here")
        return self.outside

    def _guest(self, request: Mapping[str, Any]) -> Any:
        vm_id, what = request.get("vm"), request.get("do")
        if not isinstance(vm_id, str) or not isinstance(what, str):
            raise WrongUse("guest wants a vm, and what to do")
        return self.guests.ask(vm_id, what, request.get("with"))


def _vm(request: Mapping[str, Any]) -> str:
    """The VM that a request is about."""
    vm_id = request.get("vm")
    if not isinstance(vm_id, str):
        raise WrongUse("which vm?")
    return vm_id


def _names(request: Mapping[str, Any]) -> list[str] | None:
    """Names of VMs of a request; None for all."""
    names = request.get("vms")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WrongUse("vms is a list of names")
    return names
