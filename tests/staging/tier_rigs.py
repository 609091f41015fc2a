"""Simulated tiers, and a book of moves in memory, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from forestall.adapters.simulated.tiers import SimulatedTiers
from forestall.model.errors import StoreError
from forestall.ports.tiers import DiskName, Move, State

GIB = 1 << 30
DISK = DiskName("a", "vda")


@dataclass
class Book:
    """A book of moves; a process that dies leaves it as it is."""

    written: dict[tuple[str, str, float], Move] = field(default_factory=dict)
    full: bool = False
    full_at: int = 0
    writes: int = 0

    def write(self, move: Move) -> None:
        self.writes += 1
        if self.full or self.writes == self.full_at:
            raise StoreError("there is no room")
        self.written[move.vm_id, move.target, move.began_at] = move

    def moves(self) -> tuple[Move, ...]:
        return tuple(self.written.values())

    @contextmanager
    def alone(self) -> Iterator[None]:
        yield


def two_tiers(fast_bytes: int = 100 * GIB) -> SimulatedTiers:
    return SimulatedTiers({"fast": (0.1, fast_bytes), "slow": (8.0, 1000 * GIB)})


def move_of(name: DiskName = DISK, source: str = "/slow/a.img", began_at: float = 0.0) -> Move:
    return Move(
        vm_id=name.vm_id,
        target=name.target,
        uuid=f"uuid-{name.vm_id}",
        source=source,
        destination=source.replace("/slow/", "/fast/"),
        from_tier="slow",
        to_tier="fast",
        size_bytes=GIB,
        bytes_per_s=1 << 20,
        why="a test",
        state=State.BEGINNING,
        began_at=began_at,
    )
