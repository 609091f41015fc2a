"""VMs whose disks are watched, and those that cannot be; and what is said of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forestall.ports.blocks import BlockWatch
from forestall.staging.asked import AskedView
from forestall.staging.block_group import BlockView
from forestall.staging.ledger import Group
from forestall.staging.watched import Place

REST_SECONDS, MOST_REST_SECONDS = 10.0, 300.0
"""A VM whose requests are more than can be looked at is not watched for so long, longer each time, unless it was awake
for ten times as long in between."""
AGAIN_SECONDS, MOST_AGAIN_SECONDS = 1.0, 300.0
"""A VM that cannot be watched is tried again after so long, longer each time."""


@dataclass(frozen=True)
class BlockStatus:
    """What is so; :class:`~forestall.staging.block_group.BlockView` says what of a group.

    And :class:`~forestall.staging.asked.AskedView` of what was asked for; and which VMs are about to read much.
    """

    vms: tuple[str, ...] = ()
    staged_bytes: int = 0
    most_bytes: int = 0
    waiting: int = 0
    resting: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    core_ratio: float = 0.0
    held_back_seconds: float = 0.0
    groups: Mapping[str, BlockView] = field(default_factory=dict)
    asked: Mapping[str, AskedView] = field(default_factory=dict)
    reading: tuple[str, ...] = ()


@dataclass
class BlockVm:
    """A VM whose disks are watched.

    Attributes
    ----------
    requests
        What it asked for of late, fading.
    rests_until, awake_since, rest_seconds
        When its rest ends (None: it does not rest), when the last one ended, and how long the next one is.
    reads, there
        Blocks that were looked for right after it had read them, and how many of them were in memory.
    """

    place: Place
    watch: BlockWatch
    awake_since: float
    requests: float = 0.0
    rests_until: float | None = None
    rest_seconds: float = REST_SECONDS
    reads: int = 0
    there: int = 0

    @property
    def group(self) -> Group:
        """Its trust group."""
        return group_of(self.place)


@dataclass
class RefusedVm:
    """A VM that could not be watched: which run of it, why, and when it is tried again."""

    incarnation: str
    why: str
    again_at: float
    pause_seconds: float = AGAIN_SECONDS

    @classmethod
    def once_more(cls, place: Place, why: str, before: RefusedVm | None, now: float) -> RefusedVm:
        """It could not be watched, once more or for the first time."""
        pause = min(2.0 * before.pause_seconds, MOST_AGAIN_SECONDS) if before else AGAIN_SECONDS
        return cls(place.incarnation, why, now + pause, pause)


def group_of(place: Place) -> Group:
    """The trust group of a VM."""
    return Group(place.group, place.generation)
