"""Disks on tiers as libvirt and QEMU have them, in memory: what each image holds, and what a VM has been told is so."""

from __future__ import annotations

from dataclasses import dataclass, field

from forestall.model.errors import HypervisorError
from forestall.ports.tiers import Copy, DiskName, Move, Standing, Tier, TierDisk


@dataclass
class SimulatedDisk:
    """One disk of a VM.

    Attributes
    ----------
    path, starts_on
        Image that the running VM uses, or used last; and that it will use when it is started.
    run
        Number of the run; 0: it does not run.
    written
        What its VM believes that it has written: a count.
    copy_to, behind
        Image that a copy is made into, and how many turns until it is in step; empty: none.
    """

    path: str
    starts_on: str
    size_bytes: int = 1 << 30
    run: int = 1
    runs: int = 1
    written: int = 0
    requests: int = 0
    wait_seconds: float = 0.0
    copy_to: str = ""
    behind: int = 0
    refusal: str = ""


@dataclass
class SimulatedTiers:
    """A :class:`~forestall.ports.tiers.DiskTiers`; images hold the count of what was written into them."""

    folders: dict[str, tuple[float, int]]
    known: dict[DiskName, SimulatedDisk] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    turns: int = 3
    failing: str = ""

    def add(self, name: DiskName, path: str, size_bytes: int = 1 << 30) -> SimulatedDisk:
        """Start a VM with a disk."""
        self.known[name] = SimulatedDisk(path, path, size_bytes)
        self.images[path] = 0
        return self.known[name]

    def write(self, name: DiskName) -> None:
        """Its VM writes."""
        disk = self.known[name]
        if disk.run:
            disk.written = self.images[disk.path] = self.images[disk.path] + 1
            if disk.copy_to and not disk.behind:
                self.images[disk.copy_to] = self.images[disk.path]

    def stop(self, name: DiskName) -> None:
        """Its VM ends, or is killed; a copy ends with it."""
        disk = self.known[name]
        disk.run, disk.copy_to = 0, ""

    def start(self, name: DiskName) -> None:
        """Its VM is started."""
        disk = self.known[name]
        if not disk.run:
            disk.runs += 1
            disk.run, disk.path = disk.runs, disk.starts_on
            disk.requests, disk.wait_seconds = 0, 0.0

    def break_copy(self, name: DiskName) -> None:
        """The copy ends, as when the disk is full."""
        self.known[name].copy_to = ""

    def tiers(self) -> tuple[Tier, ...]:
        """Every tier with what its images leave of it."""
        sizes = {disk.path: disk.size_bytes for disk in self.known.values()}
        return tuple(
            Tier(name, f"/{name}", ms, room - sum(sizes.get(p, 1 << 30) for p in self.images if _tier(p) == name))
            for name, (ms, room) in self.folders.items()
        )

    def disks(self) -> tuple[TierDisk, ...]:
        """Every disk of a running VM."""
        return tuple(
            TierDisk(
                name,
                str(disk.run),
                f"uuid-{name.vm_id}",
                disk.path,
                _tier(disk.path),
                disk.size_bytes,
                disk.requests,
                disk.wait_seconds,
                disk.refusal,
            )
            for name, disk in self.known.items()
            if disk.run
        )

    def standing(self, move: Move) -> Standing:
        """How things stand; a copy comes nearer with each look."""
        self._fail("standing")
        disk = self._disk(move)
        copy = None
        if disk.run and disk.copy_to == move.destination:
            disk.behind = max(disk.behind - 1, 0)
            if not disk.behind:
                self.images[disk.copy_to] = self.images[disk.path]
            done = disk.size_bytes * (self.turns - disk.behind) // self.turns
            copy = Copy(done, disk.size_bytes, not disk.behind)
        return Standing(disk.path if disk.run else "", disk.starts_on, copy)

    def begin(self, move: Move) -> None:
        """Begin a copy."""
        self._fail("begin")
        disk = self._disk(move)
        if move.destination in self.images:
            raise HypervisorError(f"{move.destination} is there already")
        if not disk.run:
            raise HypervisorError(f"{move.vm_id} does not run")
        self.images[move.destination] = -1
        disk.copy_to, disk.behind = move.destination, self.turns
        self._fail("begin, afterwards")

    def settle(self, move: Move, path: str) -> None:
        """Have the VM start on an image."""
        self._fail("settle")
        self._disk(move).starts_on = path

    def switch(self, move: Move) -> None:
        """Have the VM run on the copy."""
        self._fail("switch")
        disk = self._disk(move)
        if not disk.run or disk.copy_to != move.destination or disk.behind:
            raise HypervisorError("the copy is not in step")
        disk.path, disk.copy_to = move.destination, ""

    def end_copy(self, move: Move) -> None:
        """Copy no more."""
        self._fail("end_copy")
        self._disk(move).copy_to = ""

    def remove(self, move: Move, path: str) -> str:
        """Remove an image that is not used."""
        self._fail("remove")
        disk = self._disk(move)
        if path in ((disk.path if disk.run else ""), disk.starts_on, disk.copy_to):
            return f"{path} is in use and kept"
        self.images.pop(path, None)
        return ""

    def _disk(self, move: Move) -> SimulatedDisk:
        return self.known[DiskName(move.vm_id, move.target)]

    def _fail(self, what: str) -> None:
        if self.failing == what:
            raise HypervisorError(f"{what} was refused")


def _tier(path: str) -> str:
    return path.split("/")[1]
