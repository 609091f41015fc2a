"""What a host has in all."""

from __future__ import annotations

from collections.abc import Mapping

import libvirt

from forestall.adapters.libvirt.connection import Handle
from forestall.adapters.libvirt.errors import translated
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource


def host_totals(handle: Handle) -> Mapping[Resource, float]:
    """Cores and bytes of memory of the host behind a connection.

    Memory is ``MemTotal``; ``virNodeGetInfo``, which adds up what the firmware told of NUMA nodes at the start (13.6
    GiB of 23.5 on the machine that this was written on), stands in where a driver does not know it.
    """
    with translated("cannot ask for the host's cores and memory"):
        _, memory_mib, cores, *_ = handle.getInfo()
    try:
        with translated("cannot ask for the host's memory"):
            total_kib = handle.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"]
    except (HypervisorError, KeyError):
        return {Resource.CPU: float(cores), Resource.MEMORY: float(memory_mib) * 1024**2}
    return {Resource.CPU: float(cores), Resource.MEMORY: float(total_kib) * 1024}
