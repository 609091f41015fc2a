"""Which host each VM is on, and what the hosts have.

Either every ``vms_per_host`` VMs, in the order of their first appearance, share a host that has the sum of their limits
divided by the overcommit; or a TOML file names hosts, their VMs and their capacities::

    [[host]]
    name = "h1"
    vms = ["web-*", "db-1"]
    cpu_cores = 64
    memory_bytes = 270582939648
    allocation_ratio = 1.0      # optional: what may be promised for each unit there is
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
import numpy as np

from forestall.model.errors import BadInput
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray

ELSEWHERE = "elsewhere"


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A host as a hosts file describes it; a resource that it does not name has no end."""

    name: str
    vms: list[str]
    cpu_cores: float | None = None
    memory_bytes: float | None = None
    disk_read_bytes_per_s: float | None = None
    disk_write_bytes_per_s: float | None = None
    net_rx_bytes_per_s: float | None = None
    net_tx_bytes_per_s: float | None = None
    allocation_ratio: float = 1.0

    def capacity(self, resource: Resource) -> float:
        """What may be allocated of a resource; inf where the file says nothing."""
        column = f"{resource.value}_{resource.unit}"
        total = getattr(self, column)
        return np.inf if total is None else float(total) * self.allocation_ratio


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: list[Host]


def load_hosts(path: Path) -> tuple[Host, ...]:
    """Read a hosts file; anything wrong with it is a :class:`BadInput`."""
    try:
        hosts = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File).host
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", path=path) from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadInput(str(error), path=path) from error
    names = [h.name for h in hosts]
    for host in hosts:
        if names.count(host.name) > 1:
            raise BadInput(f"host {host.name!r} is there twice", path=path)
        amounts = [host.capacity(r) for r in Resource]
        if not host.allocation_ratio > 0 or not all(a > 0 for a in amounts):
            raise BadInput(f"host {host.name!r}: capacities and allocation_ratio must be above 0", path=path)
    return tuple(hosts)


@dataclass(frozen=True)
class Placement:
    """Assigns VMs to hosts. The default is one host without an end.

    Attributes
    ----------
    hosts
        Hosts of a file; VMs that none of them names are ``elsewhere``, without an end.
    vms_per_host, overcommit
        Used instead when ``vms_per_host`` is above 0.
    """

    hosts: tuple[Host, ...] = ()
    vms_per_host: int = 0
    overcommit: float = 1.0
    _cache: dict[int, IntArray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def bounded(self) -> bool:
        """Whether there is any pool with an end."""
        return bool(self.hosts) or self.vms_per_host > 0

    def names(self, vms: int) -> tuple[str, ...]:
        """Names of the hosts for a roster of ``vms`` VMs."""
        if self.hosts:
            return (*(h.name for h in self.hosts), ELSEWHERE)
        count = -(-vms // self.vms_per_host) if self.vms_per_host else 1
        return tuple(f"host-{i + 1}" for i in range(max(count, 1)))

    def host_of_vm(self, vm_ids: Sequence[str]) -> IntArray:
        """Index (vm,) of each VM's host; a roster only grows, and places once given stay."""
        if len(vm_ids) not in self._cache:
            self._cache[len(vm_ids)] = self._place(vm_ids)
        return self._cache[len(vm_ids)]

    def _place(self, vm_ids: Sequence[str]) -> IntArray:
        if not self.hosts:
            size = self.vms_per_host or max(len(vm_ids), 1)
            return np.arange(len(vm_ids), dtype=np.int64) // size
        return np.array([self._find(name) for name in vm_ids], dtype=np.int64)

    def _find(self, vm_id: str) -> int:
        for i, host in enumerate(self.hosts):
            if any(fnmatchcase(vm_id, pattern) for pattern in host.vms):
                return i
        return len(self.hosts)

    def capacity(self, resource: Resource, limit: FloatArray, host_of_vm: IntArray) -> FloatArray:
        """What each host has (host,), inf without an end; ``limit`` (vm,) is what its VMs are provisioned with."""
        if self.hosts:
            return np.array([*(h.capacity(resource) for h in self.hosts), np.inf])
        count = int(host_of_vm.max()) + 1 if len(host_of_vm) else 1
        if not self.vms_per_host:
            return np.full(count, np.inf)
        sums = np.bincount(host_of_vm, weights=np.nan_to_num(limit, nan=0.0, posinf=np.inf), minlength=count)
        return np.where(sums > 0, sums, np.inf) / self.overcommit
