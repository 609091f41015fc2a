"""Who plays which part in a generated workload."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.workload import Workload


@dataclass(frozen=True, eq=False)
class Cast:
    """Who plays which part; every array is (vm,), VMs in the order in which they appear.

    Attributes
    ----------
    archetype
        Position in :attr:`Mixture.names`.
    group
        Correlated group, -1 for the others.
    born, gone
        First interval, and the one after the last.
    cores, memory_bytes
        What the VM is provisioned with at first.
    """

    archetype: IntArray
    group: IntArray
    born: IntArray
    gone: IntArray
    cores: FloatArray
    memory_bytes: FloatArray

    def short_lived(self, steps: int) -> BoolArray:
        """Whether a VM is there for a part of the trace only."""
        return (self.born > 0) | (self.gone < steps)


def cast(settings: Workload, seed: int) -> Cast:
    """Hand out the parts; the same settings and seed give the same cast."""
    rng = stream(seed, "cast")
    shares = settings.mixture.shares
    ends = np.round(np.cumsum(shares) * settings.vms)
    archetype = rng.permutation(np.searchsorted(ends, np.arange(settings.vms), side="right"))
    born, gone = _lives(settings, rng)
    order = np.argsort(born, kind="stable")
    archetype = archetype[order].astype(np.int64)
    correlated = archetype == settings.mixture.names.index("correlated")
    group = np.where(correlated, (np.cumsum(correlated) - 1) // settings.group_size, -1)
    cores = rng.choice([1.0, 2.0, 4.0, 8.0, 16.0], settings.vms, p=[0.2, 0.3, 0.27, 0.15, 0.08])
    memory = cores * rng.choice([2.0, 4.0, 8.0], settings.vms, p=[0.35, 0.45, 0.2]) * 2.0**30
    return Cast(archetype, group.astype(np.int64), born[order], gone[order], cores, memory)


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose, so that a change of one part leaves the numbers of the others alone."""
    return np.random.default_rng([seed, *purpose.encode()])


def vm_names(count: int) -> tuple[str, ...]:
    """Names of generated VMs, sorted as they count; they say nothing about the part a VM plays."""
    width = max(4, len(str(count)))
    return tuple(f"vm-{i:0{width}d}" for i in range(1, count + 1))


def _lives(settings: Workload, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """First interval and the one after the last of each VM."""
    short = rng.random(settings.vms) < settings.short_lived_share
    hour = settings.per_hour(1.0)
    length = hour * np.exp(rng.uniform(0.0, np.log(36.0), settings.vms))
    length = np.clip(length.astype(np.int64), 1, max(1, settings.steps - 1))
    born = (rng.random(settings.vms) * (settings.steps - length)).astype(np.int64)
    born = np.where(short, born, 0)
    gone = np.where(short, born + length, settings.steps)
    return born, gone
