"""Cores of a host that live in a trace of what VMs would use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from forestall.model.errors import HypervisorError
from forestall.model.samples import BoolArray, FloatArray
from forestall.ports.clock import Clock
from forestall.ports.cores import CoreUse, Guest, Part, Refusal
from forestall.ports.hypervisor import VmSettings

EARLY = 1e-6
"""Of a window: how much too early a window may begin, since times are rounded."""


class SimulatedCoreHost:
    """A :class:`~forestall.ports.cores.CoreHost` over a trace, in the time of a clock; it begins when this is made.

    Who has not made way shares the cores fairly; who has, shares what those leave. A limit is in force at once.
    Whatever a VM wishes and does not get it waits for, be it for others or for its own limit: so does the kernel count.
    What it did not get in one window it does not make up for in the next.

    Parameters
    ----------
    vm_ids
        VMs of the trace.
    wishes
        Array (time, vm): cores that each VM would use on average in each window; NaN where it does not run. After the
        last window nothing runs.
    window_us
        Length of a window, microseconds.
    clock
        Tells which window it is.
    total_cores
        What the host has.
    least_cores
        The smallest limit.
    runs_per_s
        How many times a second a VM is put on a core, for each core that it uses.
    """

    def __init__(
        self,
        vm_ids: Sequence[str],
        wishes: FloatArray,
        window_us: int,
        clock: Clock,
        *,
        total_cores: float,
        least_cores: float = 0.05,
        runs_per_s: float = 1000.0,
    ) -> None:
        self._column = {vm_id: j for j, vm_id in enumerate(vm_ids)}
        self._wishes, self._window_seconds, self._clock = wishes, window_us / 1e6, clock
        self._total_cores, self._least_cores, self._runs_per_s = total_cores, least_cores, runs_per_s
        self._limit = np.full(len(vm_ids), math.inf)
        self._behind: BoolArray = np.zeros(len(vm_ids), np.bool_)
        self._ran, self._waited = np.zeros((2, len(vm_ids)))
        self._began, self._passed = clock.monotonic(), 0.0
        self._guests: tuple[Guest, ...] = ()

    def total_cores(self) -> float:
        """What the host was said to have."""
        return self._total_cores

    def attach(self, guests: Sequence[Guest]) -> tuple[Refusal, ...]:
        """Watch these guests and no others."""
        self._pass()
        absent = [guest for guest in guests if not self._runs(guest.vm_id)]
        self._guests = tuple(guest for guest in guests if guest not in absent)
        return tuple(Refusal(guest.vm_id, "it does not run") for guest in absent)

    def guests(self) -> tuple[Guest, ...]:
        """Guests that are watched."""
        return self._guests

    def read(self, *, all_counters: bool = True) -> CoreUse:
        """Counters at this moment; nothing is known of faults and operations."""
        self._pass()
        columns = [self._column[guest.vm_id] for guest in self._guests]
        gone = ~self._there()[columns]
        ran, waited = (np.where(gone, np.nan, counter[columns]) for counter in (self._ran, self._waited))
        unknown = np.full(len(columns), np.nan)
        return CoreUse(self._clock.monotonic(), ran, waited, ran * self._runs_per_s, unknown, unknown.copy())

    def settings(self, vm_id: str) -> VmSettings:
        """What is set on a guest; an unknown one, or one that is gone, is a :class:`HypervisorError`."""
        guest, j = self._guest(vm_id), self._column.get(vm_id, 0)
        if guest is None or not self._runs(vm_id):
            raise HypervisorError(f"{vm_id}: it is not watched, or gone")
        limit = None if math.isinf(self._limit[j]) else float(self._limit[j])
        return VmSettings(vm_id, guest.incarnation, {"limit": limit, "behind": bool(self._behind[j])})

    def make_way(self, vm_id: str) -> str:
        """Put a borrower behind all others."""
        self._pass()
        if reason := self._refusal(vm_id):
            return reason
        self._behind[self._column[vm_id]] = True
        return ""

    def limit(self, cores: Mapping[str, float]) -> tuple[Refusal, ...]:
        """Set limits, from now on."""
        self._pass()
        refusals = []
        for vm_id, wanted in cores.items():
            reason = self._refusal(vm_id) or ("" if wanted >= 0 else f"{wanted:g} is not a number of cores")
            if reason:
                refusals.append(Refusal(vm_id, reason))
            else:
                self._limit[self._column[vm_id]] = max(wanted, self._least_cores)
        return tuple(refusals)

    def least_cores(self) -> float:
        """The smallest limit."""
        return self._least_cores

    def put_back(self, settings: VmSettings) -> str:
        """Set a VM as it was, unless it runs as another incarnation."""
        self._pass()
        guest, j = self._guest(settings.vm_id), self._column.get(settings.vm_id)
        if j is not None and (guest is None or guest.incarnation == settings.incarnation):
            limit = settings.values["limit"]
            self._limit[j] = math.inf if limit is None else limit
            self._behind[j] = settings.values["behind"]
        return ""

    def close(self) -> None:
        """Watch nobody; what is set stays set."""
        self._guests = ()

    def _guest(self, vm_id: str) -> Guest | None:
        return next((guest for guest in self._guests if guest.vm_id == vm_id), None)

    def _refusal(self, vm_id: str) -> str:
        """Why a guest cannot be limited."""
        guest = self._guest(vm_id)
        if guest is None or not self._runs(vm_id):
            return "it is not watched, or gone"
        return "it is a lender, whose limits are never moved" if guest.part is Part.LENDER else ""

    def _runs(self, vm_id: str) -> bool:
        return vm_id in self._column and bool(self._there()[self._column[vm_id]])

    def _there(self) -> BoolArray:
        """Which VMs (vm,) run; between two windows those of both, so that the last of a VM is seen at its end."""
        windows = (self._clock.monotonic() - self._began) / self._window_seconds
        begin, end = math.ceil(windows - EARLY) - 1, math.floor(windows + EARLY)
        return np.asarray((~np.isnan(self._wishes[max(begin, 0) : end + 1])).any(axis=0), np.bool_)

    def _pass(self) -> None:
        """Let the counters grow up to now, window by window, with what has been in force since they grew last."""
        now = min(self._clock.monotonic() - self._began, len(self._wishes) * self._window_seconds)
        while now > self._passed:
            window = min(int(self._passed / self._window_seconds + EARLY), len(self._wishes) - 1)
            end = min((window + 1) * self._window_seconds, now)
            wished = np.nan_to_num(self._wishes[window])
            used = self._used(wished)
            self._ran += used * (end - self._passed)
            self._waited += (wished - used) * (end - self._passed)
            self._passed = end

    def _used(self, wished: FloatArray) -> FloatArray:
        """Cores (vm,) that each VM gets."""
        allowed = np.minimum(wished, self._limit)
        first = shared(np.where(self._behind, 0.0, allowed), self._total_cores)
        return first + shared(np.where(self._behind, allowed, 0.0), self._total_cores - float(first.sum()))


def shared(wanted: FloatArray, available: float) -> FloatArray:
    """What each gets of what is wanted (vm,): all of it, or at most a level that is the same for all.

    Examples
    --------
    >>> shared(np.array([1.0, 4.0, 5.0]), 7.0)
    array([1., 3., 3.])
    """
    if wanted.sum() <= available:
        return wanted
    ordered = np.sort(wanted)
    left = available - np.concatenate([[0.0], np.cumsum(ordered)[:-1]])
    levels = left / np.arange(len(ordered), 0, -1)
    return np.asarray(np.minimum(wanted, levels[np.argmax(ordered >= levels)]), np.float64)
