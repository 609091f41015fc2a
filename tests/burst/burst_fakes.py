"""A guard and a memory of originals that live in this process."""

from __future__ import annotations

from forestall.model.errors import HypervisorError, StoreError
from forestall.ports.hypervisor import VmSettings


class FakeGuard:
    """Remembers what it covers; ``dead``, ``stillborn`` and ``deaf`` are for tests to set."""

    def __init__(self) -> None:
        self.covered: dict[str, VmSettings] = {}
        self.dead, self.stillborn, self.deaf, self.beats, self.begun = True, False, False, 0, 0

    def begin(self) -> None:
        if self.stillborn:
            raise HypervisorError("it did not start")
        self.dead, self.begun = False, self.begun + 1

    def cover(self, settings: VmSettings) -> None:
        self.dead = self.dead or self.deaf
        self.covered[settings.vm_id] = settings

    def release(self, vm_id: str) -> None:
        self.covered.pop(vm_id, None)

    def beat(self) -> None:
        self.beats += 1

    def alive(self) -> bool:
        return not self.dead

    def end(self) -> int:
        self.dead = True
        return 0


class FakeOriginals:
    """Entries in a dictionary; a disk that is full or read-only is for tests to set."""

    def __init__(self) -> None:
        self.entries: dict[str, VmSettings] = {}
        self.full = self.stuck = False

    def keep(self, settings: VmSettings) -> VmSettings:
        if self.full:
            raise StoreError("no space left")
        return self.entries.setdefault(settings.vm_id, settings)

    def kept(self) -> tuple[VmSettings, ...]:
        return tuple(self.entries.values())

    def forget(self, vm_id: str) -> None:
        if self.stuck:
            raise StoreError("read-only")
        self.entries.pop(vm_id, None)
