"""How a pool of hosts fares: overload, over-allocation, and shortfall weighted by importance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import FloatArray, IntArray

TOLERANCE = 1e-9


@dataclass(frozen=True)
class HostScores:
    """Scores of a pool on one resource; the tuples have one entry for each host, in order.

    Attributes
    ----------
    overload_share
        Share of host-intervals in which the VMs together demanded more than the host has.
    max_allocated_ratio
        Highest sum of allocations over capacity, of any host and interval; above 1 was promised twice.
    weighted_shortfall
        Σ weight × unmet demand over Σ weight × demand.
    host_overload_share, host_max_allocated_ratio, host_weighted_shortfall
        The same for each host; NaN for a host without VMs.
    """

    overload_share: float
    max_allocated_ratio: float
    weighted_shortfall: float
    host_overload_share: tuple[float, ...]
    host_max_allocated_ratio: tuple[float, ...]
    host_weighted_shortfall: tuple[float, ...]


def score_hosts(
    demand: FloatArray,
    allocated: FloatArray,
    capacity: FloatArray,
    host_of_vm: IntArray,
    weight: FloatArray,
) -> HostScores:
    """Score a pool of hosts.

    Parameters
    ----------
    demand
        Array (time, vm), capped at the limit; NaN where unobserved, which counts as nothing demanded.
    allocated
        Array (time, vm); what is in force, NaN: nothing held.
    capacity
        Array (host,) or (time, host), > 0, in the unit of the resource.
    host_of_vm
        Array (vm,): index of each VM's host.
    weight
        Array (vm,), importance of each VM, > 0.
    """
    wanted = np.nan_to_num(demand, nan=0.0)
    held = np.nan_to_num(allocated, nan=0.0)
    unmet = weight * np.maximum(wanted - held, 0.0).sum(axis=0)
    asked = weight * wanted.sum(axis=0)
    overload, highest, shortfall = [], [], []
    for host in range(capacity.shape[-1]):
        mine, room = host_of_vm == host, capacity[..., host]
        used = wanted[:, mine].sum(axis=1)
        overload.append(float((used > room + TOLERANCE).mean()) if mine.any() else np.nan)
        highest.append(float((held[:, mine].sum(axis=1) / room).max()) if mine.any() else np.nan)
        shortfall.append(_share(float(unmet[mine].sum()), float(asked[mine].sum())))
    busy, full = _known(overload), _known(highest)
    return HostScores(
        overload_share=float(busy.mean()) if len(busy) else float("nan"),
        max_allocated_ratio=float(full.max()) if len(full) else float("nan"),
        weighted_shortfall=_share(float(unmet.sum()), float(asked.sum())),
        host_overload_share=tuple(overload),
        host_max_allocated_ratio=tuple(highest),
        host_weighted_shortfall=tuple(shortfall),
    )


def host_sums(values: FloatArray, host_of_vm: IntArray, hosts: int) -> FloatArray:
    """Sum (time, vm) over the VMs of each host, NaN as nothing: (time, host)."""
    filled = np.nan_to_num(values, nan=0.0)
    return np.stack([filled[:, host_of_vm == h].sum(axis=1) for h in range(hosts)], axis=1)


def _known(values: list[float]) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    return array[~np.isnan(array)]


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
