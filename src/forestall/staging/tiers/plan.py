r"""Which disks are moved to which tier: what a move saves must be well above what it costs.

A move saves waiting. With :math:`r_h` requests/s expected in hour :math:`h`, which wait :math:`w` each where the disk
lies now, and requests that take :math:`t_a` there and :math:`t_b` on the other tier, it saves

.. math:: G = w \left(1 - \frac{t_b}{t_a}\right) \sum_h 3600\, r_h\, u_h

seconds, where :math:`u_h` is the share of the hour after the copying has ended: the lead time is size over rate. It
costs as much time of both tiers as if all of the image were asked for once in requests of 1 MiB, which is what QEMU
copies in. That requests wait :math:`w` is measured, so that a disk that the host has in its page cache gains little.

Where the quicker tier is full, the disks there that lose least make room, if all of it together pays: a knapsack, by
gain per byte (Dantzig, "Discrete-variable extremum problems", 1957).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from forestall.model.samples import FloatArray
from forestall.ports.tiers import DiskName, Tier, TierDisk

HOUR = 3600
PIECE_BYTES = 1 << 20
MOST_AT_ONCE = 32
"""So many of those that would gain most are looked at."""


@dataclass(frozen=True)
class TierSettings:
    """How disks are moved.

    Attributes
    ----------
    look_ahead_hours
        What a move saves within so long counts.
    gain_ratio
        It must be so many times what it costs.
    bytes_per_s
        So fast images are copied at the most.
    keep_free_bytes
        So much stays free on each tier.
    least_seen_hours
        A disk of which less is known is left where it is.
    removes_old
        Whether the old image is removed, so that there is room where it was.
    """

    look_ahead_hours: int = 24
    gain_ratio: float = 2.0
    bytes_per_s: int = 50 << 20
    keep_free_bytes: int = 10 << 30
    least_seen_hours: int = 6
    removes_old: bool = True


@dataclass(frozen=True, eq=False)
class Outlook:
    """A disk and what is expected of it.

    Attributes
    ----------
    disk
        Which.
    requests_per_s
        Array (hour,), from now on.
    wait_ms
        How long each waits now, in milliseconds; NaN where it is not known.
    seen_hours
        Of how many hours something is known.
    free
        Whether it may be moved now.
    """

    disk: TierDisk
    requests_per_s: FloatArray
    wait_ms: float
    seen_hours: int
    free: bool = True

    def waited(self, here: Tier, settings: TierSettings) -> float:
        """Seconds that requests will wait where the disk is now, from when it could be elsewhere."""
        hours = np.arange(len(self.requests_per_s))
        after = np.clip(hours + 1 - self.disk.size_bytes / settings.bytes_per_s / HOUR, 0.0, 1.0)
        wait_ms = here.request_ms if math.isnan(self.wait_ms) else self.wait_ms
        return float(self.requests_per_s @ after) * HOUR * wait_ms / 1000


@dataclass(frozen=True)
class Proposal:
    """A move: what it is for, and what it takes.

    Attributes
    ----------
    name, from_tier, to_tier
        Which disk goes where.
    size_bytes
        What is copied.
    lead_seconds
        How long that takes.
    gain_seconds
        Waiting that is saved within the time that is looked ahead; below 0: caused.
    cost_seconds
        Time of both tiers that the copying takes.
    why
        What for.
    """

    name: DiskName
    from_tier: str
    to_tier: str
    size_bytes: int
    lead_seconds: float
    gain_seconds: float
    cost_seconds: float
    why: str


@dataclass(frozen=True)
class Plan:
    """What is to be moved, in this order; and why each other disk stays, by its name."""

    moves: tuple[Proposal, ...]
    stays: dict[DiskName, str]


@dataclass(frozen=True, eq=False)
class _Placed:
    """A disk that may be moved, where it lies, and what it waits there."""

    outlook: Outlook
    here: Tier
    waited: float

    @property
    def name(self) -> DiskName:
        return self.outlook.disk.name

    @property
    def size_bytes(self) -> int:
        return self.outlook.disk.size_bytes

    @property
    def order(self) -> tuple[float, DiskName]:
        """By what a byte of it is worth."""
        return self.waited / max(self.size_bytes, 1), self.name

    def to(self, there: Tier, settings: TierSettings, why: str) -> Proposal:
        """What a move saves and costs."""
        return Proposal(
            self.name,
            self.here.name,
            there.name,
            self.size_bytes,
            self.size_bytes / settings.bytes_per_s,
            self.waited * (1 - there.request_ms / self.here.request_ms),
            math.ceil(self.size_bytes / PIECE_BYTES) * (self.here.request_ms + there.request_ms) / 1000,
            why,
        )


def plan(outlooks: Sequence[Outlook], tiers: Sequence[Tier], settings: TierSettings) -> Plan:
    """Decide; ``tiers`` are given the quickest first."""
    scene = _Scene(outlooks, tiers, settings)
    scene.make_room()
    for placed in scene.candidates():
        for there in tiers[: scene.rank[placed.here.name]]:
            if scene.consider(placed, there):
                break
    moved = {move.name for move in scene.moves}
    return Plan(tuple(scene.moves), {name: why for name, why in scene.stays.items() if name not in moved})


def proposal(outlook: Outlook, here: Tier, there: Tier, settings: TierSettings, why: str) -> Proposal:
    """What a move that somebody asks for saves and costs."""
    return _Placed(outlook, here, outlook.waited(here, settings)).to(there, settings, why)


@dataclass
class _Room:
    """What is left on each tier, by name, below what is to stay free."""

    tiers: tuple[Tier, ...]
    left: dict[str, int] = field(default_factory=dict)

    def take(self, size_bytes: int, from_rank: int) -> Tier | None:
        """Take it from the quickest tier that has so much, of one and those slower; None if none has."""
        for tier in self.tiers[from_rank:]:
            if self.left[tier.name] >= size_bytes:
                self.left[tier.name] -= size_bytes
                return tier
        return None


class _Scene:
    """Disks and tiers as they would be after the moves so far; disks that have moved stay where they are."""

    def __init__(self, outlooks: Sequence[Outlook], tiers: Sequence[Tier], settings: TierSettings) -> None:
        self.tiers, self.settings = tuple(tiers), settings
        self.moves: list[Proposal] = []
        self.stays: dict[DiskName, str] = {}
        self.room = _Room(self.tiers, {tier.name: tier.free_bytes - settings.keep_free_bytes for tier in tiers})
        self.rank = {tier.name: i for i, tier in enumerate(tiers)}
        self.on: dict[str, dict[DiskName, _Placed]] = {tier.name: {} for tier in tiers}
        placed = []
        for outlook in outlooks:
            if why := self._why_not(outlook):
                self.stays[outlook.disk.name] = why
            else:
                here = self.tiers[self.rank[outlook.disk.tier]]
                placed.append(_Placed(outlook, here, outlook.waited(here, settings)))
        for one in sorted(placed, key=lambda one: one.order):  # what is worth least comes first
            self.on[one.here.name][one.name] = one

    def _why_not(self, outlook: Outlook) -> str:
        disk, least = outlook.disk, self.settings.least_seen_hours
        if disk.refusal:
            return disk.refusal
        if disk.tier not in self.rank:
            return "lies on none of the tiers"
        if not outlook.free:
            return "is left as it is"
        if outlook.seen_hours < least:
            return f"known for {outlook.seen_hours} hours of {least}"
        return ""

    def make_room(self) -> None:
        """Where a tier has less room than is to stay free, those that are worth least go to one that has some."""
        for tier, slower in pairwise(self.tiers):
            why = f"{tier.name} has less room than is to stay free"
            for placed in list(self.on[tier.name].values()):
                if self.room.left[tier.name] >= 0:
                    break
                if self._freed(placed) and (there := self.room.take(placed.size_bytes, self.rank[slower.name])):
                    self.room.left[tier.name] += self._freed(placed)
                    self._move(placed, placed.to(there, self.settings, why))

    def candidates(self) -> list[_Placed]:
        """Disks that would gain by a quicker tier, those first that are worth most."""
        found = []
        for i, tier in enumerate(self.tiers):
            for placed in self.on[tier.name].values():
                self.stays[placed.name] = "is hardly asked" if i else "lies on the quickest tier"
                if i and placed.waited > 0 and placed.size_bytes:
                    found.append(placed)
        return sorted(found, key=lambda one: one.order, reverse=True)[:MOST_AT_ONCE]

    def consider(self, placed: _Placed, there: Tier) -> bool:
        """Move a disk, and others out of its way, if all of that pays; whether it did."""
        if placed.name not in self.on[placed.here.name]:
            return True  # it has made room for another
        wanted = placed.to(there, self.settings, "is asked often")
        gain, cost, away = wanted.gain_seconds, wanted.cost_seconds, list[tuple[_Placed, Proposal]]()
        room, rank = _Room(self.tiers, dict(self.room.left)), self.rank[there.name]
        for victim in self.on[there.name].values():
            if room.left[there.name] >= placed.size_bytes:
                break
            if self._freed(victim) and (goes_to := room.take(victim.size_bytes, rank + 1)):
                aside = victim.to(goes_to, self.settings, f"makes room for {placed.name}")
                gain, cost = gain + aside.gain_seconds, cost + aside.cost_seconds
                room.left[there.name] += self._freed(victim)
                away.append((victim, aside))
        if room.left[there.name] < placed.size_bytes:
            self.stays[placed.name] = f"{there.name} has no room"
            return False
        if gain < self.settings.gain_ratio * cost or gain <= 0:
            what = f"saves {gain:.0f} s of waiting in {self.settings.look_ahead_hours} hours, costs {cost:.0f} s"
            self.stays[placed.name] = f"a move to {there.name} does not pay: {what}"
            return False
        room.left[there.name] -= placed.size_bytes
        room.left[placed.here.name] += self._freed(placed)
        self.room = room
        for one, move in (*away, (placed, wanted)):
            self._move(one, move)
        return True

    def _move(self, placed: _Placed, move: Proposal) -> None:
        del self.on[move.from_tier][placed.name]
        self.moves.append(move)

    def _freed(self, placed: _Placed) -> int:
        """Room that there is when a disk has gone."""
        return 0 if placed.here.why_kept or not self.settings.removes_old else placed.size_bytes
