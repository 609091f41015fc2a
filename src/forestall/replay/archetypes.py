"""Shapes of load: one function for each archetype, vectorised over its VMs.

Each answers a load (time, vm) of about 0 to 1, the share of a VM's capacity that its work would take, before
noise. ``hour`` is the hour of day (0 to 24) and ``weekend`` whether the day is Saturday or Sunday, (time, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from forestall.model.samples import BoolArray, FloatArray
from forestall.replay.workload import DAY_SECONDS, Workload


@dataclass(frozen=True, eq=False)
class Calendar:
    """Time as a workload feels it; arrays (time, 1)."""

    hour: FloatArray
    day: FloatArray
    weekend: BoolArray

    @classmethod
    def of(cls, settings: Workload) -> Calendar:
        """Calendar of a workload's intervals (UTC)."""
        at = settings.start + settings.step_seconds * np.arange(settings.steps)[:, None]
        day = at // DAY_SECONDS
        return cls((at % DAY_SECONDS) / 3600.0, (day - day[0]).astype(np.float64), (day + 3) % 7 >= 5)


def ar1(rng: np.random.Generator, steps: int, columns: int, memory_steps: float, sd: float | FloatArray) -> FloatArray:
    """AR(1) noise (time, column): x_t = φ x_{t−1} + e_t with φ = exp(−1 / memory_steps)."""
    phi = np.exp(-1.0 / max(memory_steps, 1e-9))
    shocks = rng.standard_normal((steps, columns)) * np.sqrt(1.0 - phi**2)
    shocks[0] /= np.sqrt(1.0 - phi**2)
    noise: FloatArray = lfilter([1.0], [1.0, -phi], shocks, axis=0) * sd
    return noise


def interactive(rng: np.random.Generator, time: Calendar, settings: Workload, vms: int) -> FloatArray:
    """A working day from about 8 to 18 o'clock, days of different size, quiet weekends."""
    middle, width = rng.normal(13.0, 1.5, vms), rng.uniform(2.5, 4.0, vms)
    away = np.abs((time.hour - middle + 12.0) % 24.0 - 12.0)
    busy = 1.0 / (1.0 + np.exp((away - width) / 0.6))
    size = rng.lognormal(0.0, 0.1, (int(time.day.max()) + 1, vms))[time.day[:, 0].astype(np.int64)]
    weekend = np.where(time.weekend, rng.uniform(0.1, 0.4, vms), 1.0)
    return rng.uniform(0.02, 0.10, vms) + rng.uniform(0.25, 0.6, vms) * busy * size * weekend


def batch(rng: np.random.Generator, time: Calendar, settings: Workload, vms: int) -> FloatArray:
    """Jobs of 10 to 60 % of their period: each night (half of them), every 8 hours, or every hour."""
    period = rng.choice([24.0, 8.0, 1.0], vms, p=[0.5, 0.2, 0.3])
    length = period * np.where(period == 24.0, rng.uniform(0.04, 0.15, vms), rng.uniform(0.15, 0.6, vms))
    first = np.where(period == 24.0, rng.uniform(0.0, 5.0, vms), rng.uniform(0.0, 1.0, vms) * period)
    running = (time.day * 24.0 + time.hour - first) % period < length
    return np.where(running, rng.uniform(0.4, 0.9, vms), rng.uniform(0.01, 0.05, vms))


def bursty(rng: np.random.Generator, time: Calendar, settings: Workload, vms: int) -> FloatArray:
    """Bursts of Pareto (α = 1.5) length from 5 minutes, quiet for Pareto (α = 1.3) times from 30."""
    steps = settings.steps
    phases = 2 * int(settings.days * 24 + 12)
    lengths = np.empty((phases, vms))
    lengths[0::2] = settings.per_hour(0.5) * (1.0 + rng.pareto(1.3, (phases // 2, vms)))
    lengths[1::2] = settings.per_hour(1 / 12) * (1.0 + rng.pareto(1.5, (phases // 2, vms)))
    toggles = np.cumsum(lengths, axis=0) - lengths[0] * rng.random(vms)
    marks = np.zeros((steps + 1, vms), dtype=np.int64)
    np.add.at(marks, (np.minimum(toggles, steps).astype(np.int64), np.arange(vms)[None, :]), 1)
    phase = np.minimum(np.cumsum(marks[:steps], axis=0), phases - 1)
    heights = np.minimum(rng.lognormal(-0.7, 0.5, (phases, vms)), 1.2)
    heights[0::2] = rng.uniform(0.01, 0.06, vms)
    return np.take_along_axis(heights, phase, axis=0)


def idle(rng: np.random.Generator, time: Calendar, settings: Workload, vms: int) -> FloatArray:
    """A constant 0.5 to 4 %."""
    return np.broadcast_to(rng.uniform(0.005, 0.04, vms), (settings.steps, vms)).copy()


def regime(rng: np.random.Generator, time: Calendar, settings: Workload, vms: int) -> FloatArray:
    """One level and daily swing, then from a random time (20 to 90 % of the trace) others."""
    change = (rng.uniform(0.2, 0.9, vms) * settings.steps).astype(np.int64)
    later = np.arange(settings.steps)[:, None] >= change
    level = np.where(later, rng.uniform(0.3, 0.7, vms), rng.uniform(0.05, 0.3, vms))
    swing = np.where(later, rng.uniform(0.0, 0.5, vms), rng.uniform(0.0, 0.5, vms))
    return level * (1.0 + swing * np.sin(2 * np.pi * (time.hour - rng.uniform(6.0, 12.0, vms)) / 24.0))


def leak(rng: np.random.Generator, time: Calendar, settings: Workload, vms: int) -> FloatArray:
    """A steady service with a slight daily swing; its memory is what is special, see :func:`leaked`."""
    swing = 1.0 + 0.3 * np.sin(2 * np.pi * (time.hour - 8.0) / 24.0)
    return rng.uniform(0.1, 0.35, vms) * swing


def leaked(rng: np.random.Generator, settings: Workload, vms: int) -> FloatArray:
    """Memory that leaked, as a share of what is free (time, vm): grows for 12 to 72 hours, then a restart."""
    period = settings.per_hour(1.0) * rng.uniform(12.0, 72.0, vms)
    since_restart: FloatArray = (np.arange(settings.steps)[:, None] + rng.random(vms) * period) % period
    share: FloatArray = since_restart / period
    return share


def correlated(rng: np.random.Generator, time: Calendar, settings: Workload, groups: FloatArray) -> FloatArray:
    """Follow the group's load, each VM at its own lag and scale; ``groups`` is (vm,), counted from 0."""
    count, vms = int(groups.max(initial=-1)) + 1, len(groups)
    day = np.sin(2 * np.pi * (time.hour - rng.uniform(6.0, 12.0, count)) / 24.0)
    wander = ar1(rng, settings.steps, count, settings.per_hour(1.5), 0.5)
    latent = np.exp(0.5 * day + wander)
    lag = rng.integers(0, settings.max_lag_steps + 1, vms)
    rows = np.maximum(np.arange(settings.steps)[:, None] - lag, 0)
    load: FloatArray = rng.uniform(0.1, 0.3, vms) * latent[rows, groups.astype(np.int64)]
    return load


SHAPES: dict[str, Callable[[np.random.Generator, Calendar, Workload, int], FloatArray]] = {
    "interactive": interactive,
    "batch": batch,
    "bursty": bursty,
    "idle": idle,
    "regime": regime,
    "leak": leak,
}
"""Shapes that need nothing but time; ``correlated`` needs its groups too."""
