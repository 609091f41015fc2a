"""Memory of a VM, in bytes that the guest has: the balloon, virtio-mem, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.adapters.libvirt.actuator import Effect, Progress, Restored, Vm, Watch, rounded_up
from forestall.adapters.libvirt.balloon import STEP_BYTES, balloon_refusal, set_balloon, set_stats_period
from forestall.adapters.libvirt.domain import Domain
from forestall.adapters.libvirt.errors import translated
from forestall.adapters.libvirt.virtio_mem import request, shares
from forestall.model.errors import Unsupported
from forestall.model.resources import Resource

MEMORY = Resource.MEMORY
MIB = 1024 * 1024


@dataclass(frozen=True)
class _Plan:
    """What the balloon leaves (None: as it is) and what each virtio-mem device is asked for."""

    base_bytes: int | None
    requests: tuple[int, ...]

    def total_bytes(self, domain: Domain) -> int:
        return (domain.base_bytes if self.base_bytes is None else self.base_bytes) + sum(self.requests)


class Memory:
    """An :class:`~forestall.adapters.libvirt.actuator.Actuator`.

    Parameters
    ----------
    by
        ``balloon``; ``virtio-mem``, which cannot go below what the VM started with; or ``auto``: virtio-mem for what
        is above that, where the VM has it, and the balloon for what is below.
    """

    resources: tuple[Resource, ...] = (MEMORY,)

    def __init__(self, by: str) -> None:
        self._by = by

    def refusal(self, vm: Vm) -> str:
        """Whether the VM has the device."""
        if self._by == "virtio-mem":
            return "" if vm.domain.virtio_mem else "the VM has no virtio-mem device"
        missing = balloon_refusal(vm)
        return "" if self._plugs(vm.domain) and vm.driver == "QEMU" else missing

    def step(self, vm: Vm) -> float:
        """A MiB, or the largest block of the VM's virtio-mem devices."""
        blocks = [device.block_bytes for device in vm.domain.virtio_mem] if self._plugs(vm.domain) else []
        return float(max([STEP_BYTES, *blocks]))

    def means(self, vm: Vm) -> str:
        """``virtio-mem`` where the VM has it and it is used, else ``balloon``."""
        return "virtio-mem" if self._plugs(vm.domain) else "balloon"

    def ceiling(self, vm: Vm) -> float:
        """What the VM may have at most."""
        return self.limit(vm.domain)

    def limit(self, domain: Domain) -> float:
        """What a VM may have at most: all of it, or, if virtio-mem stays as it is, only what the balloon can give."""
        extra = sum(d.size_bytes for d in domain.virtio_mem) if self._plugs(domain) else domain.plugged_bytes
        return float(domain.base_max_bytes + extra)

    def in_force(self, vm: Vm) -> Mapping[Resource, float]:
        """What the guest has now, which lags behind what was asked for."""
        return {MEMORY: float(vm.domain.memory_bytes)}

    def held(self, vm_handle: Any) -> float:
        """What counts against the inventory, without reading the description."""
        with translated("cannot ask a VM for its memory"):
            return float(vm_handle.info()[2]) * 1024

    def set(self, vm: Vm, resource: Resource, amount: float) -> Effect:
        """Ask the guest; it follows in its own time."""
        plan = self._plan(vm, amount)
        _carry_out(vm, plan)
        return _effect(vm, plan, self.means(vm))

    def settings(self, vm: Vm) -> dict[str, Any]:
        """What the balloon leaves, what virtio-mem was asked for, how often the guest is asked."""
        domain = vm.domain
        return {
            "base_bytes": domain.base_bytes,
            "requested_bytes": [device.requested_bytes for device in domain.virtio_mem],
            "stats_period_seconds": domain.stats_period_seconds,
        }

    def put_back(self, vm: Vm, values: Mapping[str, Any]) -> list[Restored]:
        """As it was. The balloon is asked anyway, since what it was asked for last cannot be read."""
        domain, period = vm.domain, int(values["stats_period_seconds"])
        requests = tuple(map(int, values["requested_bytes"]))
        plan = _Plan(None if balloon_refusal(vm) else int(values["base_bytes"]), requests)
        asked = tuple(device.requested_bytes for device in domain.virtio_mem)
        same = domain.base_bytes == (plan.base_bytes or domain.base_bytes) and asked == requests
        _carry_out(vm, plan)
        if period != domain.stats_period_seconds and domain.has_balloon:
            set_stats_period(vm.handle, period)
        if same:
            return []
        means = "balloon" if asked == requests else "virtio-mem"
        return [Restored(MEMORY, float(plan.total_bytes(domain)), _effect(vm, plan, means))]

    def _plugs(self, domain: Domain) -> bool:
        return bool(domain.virtio_mem) and self._by in ("auto", "virtio-mem")

    def _plan(self, vm: Vm, amount: float) -> _Plan:
        domain = vm.domain
        current = tuple(device.requested_bytes for device in domain.virtio_mem)
        if not self._plugs(domain):
            return _Plan(_rounded(amount - domain.plugged_bytes, domain), current)
        base = domain.base_bytes if self._by == "virtio-mem" or balloon_refusal(vm) else domain.base_max_bytes
        if amount >= base:
            keeps = None if base == domain.base_bytes else base
            return _Plan(keeps, tuple(shares(domain.virtio_mem, amount - base)))
        if self._by == "virtio-mem":
            raise Unsupported(f"virtio-mem cannot go below the {base / MIB:g} MiB that the VM has without it")
        return _Plan(_rounded(amount, domain), tuple(0 for _ in domain.virtio_mem))


def _rounded(base_bytes: float, domain: Domain) -> int:
    return min(max(rounded_up(base_bytes, STEP_BYTES), STEP_BYTES), domain.base_max_bytes)


def _carry_out(vm: Vm, plan: _Plan) -> None:
    if plan.base_bytes is not None:
        set_balloon(vm, plan.base_bytes)
    request(vm, plan.requests)


def _effect(vm: Vm, plan: _Plan, means: str) -> Effect:
    watch = _watch(vm.domain, plan)
    progress = watch(vm)
    if progress.shortfall:
        return Effect(means, progress.in_force, float(plan.total_bytes(vm.domain)), watch)
    return Effect(means, progress.in_force, progress.in_force)


def _watch(before: Domain, plan: _Plan) -> Watch:
    """Compare what the guest has with the plan; it was asked to move by so much from ``before``."""
    target, started = plan.total_bytes(before), before.memory_bytes

    def look(vm: Vm) -> Progress:
        with translated(f"cannot ask {vm.domain.name} for its memory"):
            has = int(vm.handle.info()[2]) * 1024
        if abs(has - target) < STEP_BYTES:
            return Progress(float(has))
        did = "gave back" if target < started else "took"
        moved, asked = abs(has - started) / MIB, abs(target - started) / MIB
        return Progress(float(has), f"the guest {did} {moved:.0f} of {asked:.0f} MiB")

    return look
