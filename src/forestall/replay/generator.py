"""Generated workloads: demand traces of any size, from documented statistics and a seed.

Every VM plays one archetype (see :mod:`forestall.replay.archetypes`), which gives its load. Requests follow
the load with AR(1) noise; network traffic follows requests, CPU follows traffic, memory follows CPU slowly,
disk writes follow requests with flushes every half hour, and disk reads come in heavy-tailed bursts. Then the
measurement: CPU in thousandths of the limit, memory in 64 KiB, rates in whole bytes, gaps, VMs that are
off, resized or not there yet, and CPU above the limit now and then.

Of interactive VMs it is told how many people use them: those whose requests are the load, and who log in an
interval before their work shows.

Statistics of the default mixture (5-minute steps, a week; a test measures them):

=======================================  ==========  ====================================
statistic                                about       the test accepts
=======================================  ==========  ====================================
shares of the archetypes                 as asked    as asked, within one VM
mean CPU utilisation, all VMs            .15         .10 to .22
lag-1 autocorrelation, median VM         .88         .75 to .97
daily autocorrelation on working days:
interactive, batch; bursty               .82, .89;   above .6; below .2 (median VM)
                                         .00
correlation within a group               .78         above .6 (median pair, best lag)
correlation across groups                .29         below .5 (median pair, best lag)
CPU with network receive                 .96         .8 to .99 (median VM)
intervals without a sample               .005        .003 to .007
intervals with CPU above the limit       .0005       .0002 to .0008
=======================================  ==========  ====================================
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, Grid, Trace
from forestall.replay.archetypes import SHAPES, Calendar, ar1, correlated, leaked
from forestall.replay.cast import Cast, cast, stream, vm_names
from forestall.replay.workload import Mixture, Workload

__all__ = ["Mixture", "Workload", "cast", "generate"]

_NOISE_HOURS = 1 / 3
_GAP_STEPS = 3.0
_PAGE_BYTES = 65_536.0


def generate(settings: Workload, seed: int) -> Trace:
    """Generate a demand trace of all resources.

    The same settings and seed give the same trace, byte for byte. Work is vectorised over VMs.
    """
    players = cast(settings, seed)
    load = _load(settings, players, seed)
    demand, peak = _demand(settings, players, load, seed)
    users = _users(settings, players, load, seed)
    limit = _limits(settings, players, seed)
    off = limit[Resource.CPU] == 0.0
    missing = _missing(settings, players, seed)
    for resource, values in demand.items():
        values[off] = 0.0
        values[missing] = np.nan
        if resource.limit_column is None:
            limit[resource] = np.full(values.shape, np.inf)
    peak[off] = 0.0
    peak[missing] = users[missing] = np.nan
    users[off & ~np.isnan(users)] = 0.0
    _measure_cpu(settings, demand, peak, limit[Resource.CPU], seed)
    np.minimum(demand[Resource.MEMORY], limit[Resource.MEMORY], out=demand[Resource.MEMORY])
    for resource in (Resource.CPU, Resource.MEMORY):
        limit[resource][missing] = np.nan
    grid = Grid(settings.start, settings.step_seconds, settings.steps)
    names = vm_names(settings.vms)
    digest = _digest(grid, names, [*demand.values(), *limit.values(), peak, users])
    return Trace(grid, names, demand, limit, peak, users, digest, name=f"generated, seed {seed}")


def _load(settings: Workload, players: Cast, seed: int) -> FloatArray:
    """Requests (time, vm) as a share of capacity: the archetype's load with AR(1) noise."""
    time = Calendar.of(settings)
    load = np.empty((settings.steps, settings.vms))
    for index, name in enumerate(settings.mixture.names):
        mine = players.archetype == index
        rng = stream(seed, name)
        if name == "correlated":
            load[:, mine] = correlated(rng, time, settings, players.group[mine].astype(np.float64))
        else:
            load[:, mine] = SHAPES[name](rng, time, settings, int(mine.sum()))
    rng = stream(seed, "noise")
    sd = settings.noise * rng.uniform(0.5, 1.5, settings.vms)
    return load * np.exp(ar1(rng, settings.steps, settings.vms, settings.per_hour(_NOISE_HOURS), sd))


def _users(settings: Workload, players: Cast, load: FloatArray, seed: int) -> FloatArray:
    """People who use each interactive VM (time, vm); NaN of the others."""
    rng = stream(seed, "users")
    mine = players.archetype == settings.mixture.names.index("interactive")
    users = np.full(load.shape, np.nan)
    coming = np.concatenate([load[1:, mine], load[-1:, mine]])
    users[:, mine] = rng.poisson(coming * rng.uniform(20.0, 400.0, int(mine.sum())))
    return users


def _demand(
    settings: Workload, players: Cast, load: FloatArray, seed: int
) -> tuple[dict[Resource, FloatArray], FloatArray]:
    """Demand of each resource and the CPU's peak inside the interval, before any limit."""
    rng = stream(seed, "resources")
    shape, vms = load.shape, settings.vms
    capacity = players.cores * rng.lognormal(np.log(2e6), 0.7, vms)
    received = load * capacity * rng.lognormal(0.0, 0.12, shape)
    sent = received * rng.lognormal(0.5, 0.8, vms) * rng.lognormal(0.0, 0.05, shape)
    traffic = received / capacity
    own = rng.uniform(0.002, 0.01, vms) * rng.lognormal(0.0, 0.3, shape)
    cost = np.exp(ar1(rng, settings.steps, vms, settings.per_hour(3.0), rng.uniform(0.05, 0.25, vms)))
    cpu = players.cores * (0.9 * cost * traffic + own)
    peak = cpu * (1.0 + 0.25 * rng.exponential(1.0, shape))
    write = load * players.cores * rng.lognormal(np.log(4e5), 0.8, vms) * rng.lognormal(0.0, 0.2, shape)
    write *= 1.0 + 3.0 * _flush(settings, rng)
    read = players.cores * 2e4 * (0.2 + load) * (rng.pareto(1.4, shape) + 0.05)
    return {
        Resource.CPU: cpu,
        Resource.MEMORY: _memory(settings, players, cpu / players.cores, rng),
        Resource.DISK_READ: np.floor(np.minimum(read, 1e9)),
        Resource.DISK_WRITE: np.floor(write),
        Resource.NET_RX: np.floor(received),
        Resource.NET_TX: np.floor(sent),
    }, peak


def _flush(settings: Workload, rng: np.random.Generator) -> BoolArray:
    """Whether the VM flushes its writes in the interval: once each half hour, at its own time."""
    every = max(2, round(settings.per_hour(0.5)))
    offset = rng.integers(0, every, settings.vms)
    flushing: BoolArray = (np.arange(settings.steps)[:, None] + offset) % every == 0
    return flushing


def _memory(settings: Workload, players: Cast, busy: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Memory: a base, a working set that follows CPU within an hour, and what has leaked."""
    keep = np.exp(-1.0 / max(settings.per_hour(1.0), 1e-9))
    recent = np.empty_like(busy)
    state = busy[: max(1, int(settings.per_hour(6)))].mean(axis=0)
    for i, row in enumerate(busy):
        state = keep * state + (1.0 - keep) * row
        recent[i] = state
    share = rng.uniform(0.15, 0.5, settings.vms) + rng.uniform(0.1, 0.5, settings.vms) * recent
    leaking = players.archetype == settings.mixture.names.index("leak")
    lost = leaked(rng, settings, int(leaking.sum()))
    share[:, leaking] += (0.97 - share[:, leaking]) * lost
    share += ar1(rng, settings.steps, settings.vms, settings.per_hour(2.0), 0.004)
    return np.round(np.clip(share, 0.01, 1.0) * players.memory_bytes / _PAGE_BYTES) * _PAGE_BYTES


def _limits(settings: Workload, players: Cast, seed: int) -> dict[Resource, FloatArray]:
    """Limits (time, vm) of CPU and memory: resized for some, zero while a VM is off."""
    rng = stream(seed, "limits")
    rows, vms = np.arange(settings.steps)[:, None], settings.vms
    resized = (rng.random(vms) < settings.resized_share) & (rows >= rng.random(vms) * settings.steps)
    factor = np.where(resized, rng.choice([0.5, 2.0], vms), 1.0)
    running = ~_off(settings, rng)
    return {
        Resource.CPU: factor * players.cores * running,
        Resource.MEMORY: factor * players.memory_bytes * running,
    }


def _off(settings: Workload, rng: np.random.Generator) -> BoolArray:
    """Whether a VM is off: some each day for 4 to 10 hours, as many once for 1 to 12 hours."""
    rows, vms = np.arange(settings.steps)[:, None], settings.vms
    some, daily = rng.random(vms) < settings.off_share, rng.random(vms) < 0.5
    day = settings.per_hour(24.0)
    nightly = (rows - rng.random(vms) * day) % day < settings.per_hour(1.0) * rng.uniform(4.0, 10.0, vms)
    since = rows - rng.random(vms) * settings.steps
    once = (since >= 0) & (since < settings.per_hour(1.0) * rng.uniform(1.0, 12.0, vms))
    off: BoolArray = some & np.where(daily, nightly, once)
    return off


def _missing(settings: Workload, players: Cast, seed: int) -> BoolArray:
    """Intervals (time, vm) without a sample: gaps, and those before and after a VM's life.

    The first interval of a life is never a gap, so that VMs appear in the order of their names.
    """
    rng = stream(seed, "gaps")
    shape = (settings.steps, settings.vms)
    start = rng.random(shape) < settings.gap_ratio / _GAP_STEPS
    length = np.where(start, rng.geometric(1.0 / _GAP_STEPS, shape), 0)
    rows = np.arange(settings.steps)[:, None]
    gap = np.maximum.accumulate(rows + length, axis=0) > rows
    gap &= rows != players.born
    missing: BoolArray = gap | (rows < players.born) | (rows >= players.gone)
    return missing


def _measure_cpu(
    settings: Workload, demand: dict[Resource, FloatArray], peak: FloatArray, limit: FloatArray, seed: int
) -> None:
    """Cap CPU at the limit but for rare overshoots, and round it to thousandths of the limit, in place."""
    rng = stream(seed, "measurement")
    cpu = demand[Resource.CPU]
    over = rng.random(cpu.shape) < settings.over_limit_ratio
    grain = np.where(limit > 0, limit / 1000.0, 1.0)
    ceiling = np.where(over, limit * (1.0 + 0.1 * rng.random(cpu.shape)), limit)
    cpu[...] = np.round(np.where(over & ~np.isnan(cpu), ceiling, np.minimum(cpu, limit)) / grain) * grain
    peak[...] = np.fmax(np.round(np.minimum(peak, limit) / grain) * grain, cpu)
    peak[np.isnan(cpu)] = np.nan


def _digest(grid: Grid, names: tuple[str, ...], arrays: list[NDArray[np.float64]]) -> str:
    """SHA-256 of the content."""
    sha = hashlib.sha256(repr((grid, names)).encode())
    for values in arrays:
        sha.update(np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()
