"""Tiers of storage, the disks of VMs on them, and how a disk is brought from one to another while its VM runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


@dataclass(frozen=True)
class Tier:
    """A folder for images on storage of one kind.

    Attributes
    ----------
    name
        As the operator calls it.
    folder
        Where.
    request_ms
        How long a request takes there, in milliseconds; only ratios of tiers count.
    free_bytes
        Room that is left for images.
    why_kept
        Why images cannot be removed there; empty if they can.
    """

    name: str
    folder: str
    request_ms: float
    free_bytes: int
    why_kept: str = ""


class DiskName(NamedTuple):
    """A disk of a VM: name of the VM, and the disk's name inside it (``vda``)."""

    vm_id: str
    target: str

    def __str__(self) -> str:
        return f"{self.vm_id}:{self.target}"


@dataclass(frozen=True)
class TierDisk:
    """A disk, and what its VM has asked of it so far.

    Attributes
    ----------
    name
        Which.
    run
        Which run of its VM: the counts begin anew with each.
    uuid
        Of the VM; stays over its runs.
    path
        The image.
    tier
        Name of the tier that the image lies on; empty: on none.
    size_bytes
        What the image takes there now.
    requests
        Count of reads and writes.
    wait_seconds
        For how long they waited, added up.
    refusal
        Why it cannot be moved; empty if it can.
    counted
        Whether it was told now what was asked; a VM that is busy may not answer, and both counts are 0.
    """

    name: DiskName
    run: str
    uuid: str
    path: str
    tier: str
    size_bytes: int
    requests: int
    wait_seconds: float
    refusal: str = ""
    counted: bool = True


class State(StrEnum):
    """How far a move is. Each is written down before what it names is begun."""

    BEGINNING = "beginning"
    COPYING = "copying"
    SWITCHING = "switching"
    SWITCHED = "switched"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        """Whether there is something left to do."""
        return self not in (State.DONE, State.FAILED)


@dataclass(frozen=True)
class Move:
    """A move of a disk.

    Attributes
    ----------
    vm_id, target, uuid
        The disk, and its VM whatever its name.
    source, destination
        Paths of the image, before and after.
    from_tier, to_tier
        Names of the tiers.
    size_bytes
        What is to be copied.
    bytes_per_s
        At most so fast.
    why
        What for.
    state
        How far it is.
    began_at, ended_at
        Instants, seconds UTC; the second 0 while it is open.
    copied_bytes
        So much is done.
    said
        What there is to know of it: what went wrong, what was left where it is.
    """

    vm_id: str
    target: str
    uuid: str
    source: str
    destination: str
    from_tier: str
    to_tier: str
    size_bytes: int
    bytes_per_s: int
    why: str
    state: State
    began_at: float
    ended_at: float = 0.0
    copied_bytes: int = 0
    said: str = ""

    @property
    def key(self) -> tuple[str, str, float]:
        """What no other move has."""
        return self.vm_id, self.target, self.began_at


class Copy(NamedTuple):
    """A copy under way: how much is done of how much, and whether every write goes to both images by now."""

    done_bytes: int
    all_bytes: int
    in_step: bool


class Standing(NamedTuple):
    """How things stand with a disk that is moved.

    Attributes
    ----------
    runs_on
        Image that the running VM uses; empty: it does not run.
    starts_on
        Image that it will use when it is started the next time; empty: nothing says.
    copy
        Under way from the one to the other.
    """

    runs_on: str
    starts_on: str
    copy: Copy | None


class DiskTiers(Protocol):
    """Tiers of a host, and its disks. Errors are :class:`~forestall.model.errors.HypervisorError`."""

    def tiers(self) -> tuple[Tier, ...]:
        """Every tier, the quickest first."""
        ...

    def disks(self) -> tuple[TierDisk, ...]:
        """Every disk of a running VM, whether it answers now or not."""
        ...

    def standing(self, move: Move) -> Standing:
        """How things stand."""
        ...

    def begin(self, move: Move) -> None:
        """Begin to copy; the VM runs on. A destination that is there already is refused, and left as it is."""
        ...

    def settle(self, move: Move, path: str) -> None:
        """Have what the image at ``path`` holds on the disk, and the VM use it when it is started the next time."""
        ...

    def switch(self, move: Move) -> None:
        """Have the running VM use the copy, which is in step, and end the copying."""
        ...

    def end_copy(self, move: Move) -> None:
        """Copy no more; the VM keeps its image. Harmless if nothing is copied."""
        ...

    def remove(self, move: Move, path: str) -> str:
        """Remove an image that is no longer used; why it was left instead, or nothing. Harmless if it is gone."""
        ...
