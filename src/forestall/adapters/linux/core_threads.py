"""Which threads are the vCPUs of a VM: looked for again from time to time, since threads come and go."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

VCPU = b"CPU "
"""QEMU names the thread of a vCPU ``CPU 0/KVM``, or ``CPU 0/TCG``."""
Thread = tuple[int, int]
"""A process and a thread of it."""
Threads = frozenset[Thread]


@dataclass(frozen=True)
class Division:
    """Threads of a VM: those of its vCPUs, and the others of its process."""

    vcpus: Threads
    others: Threads = frozenset()


class VmThreads:
    """Threads of one VM.

    A process without threads of vCPUs is a container's, or a plain one: there all threads of all processes in its
    control group count as vCPUs.

    Parameters
    ----------
    pid
        The VM's process.
    group
        Its own control group; None where it has none: then the process stands for itself.
    proc_root
        Where to look.
    """

    def __init__(self, pid: int, group: Path | None, proc_root: Path) -> None:
        self._pid, self._group, self._proc_root = pid, group, proc_root
        self._vcpus: Threads = frozenset()
        self._seen: Threads = frozenset()
        self._known: Threads = frozenset()

    def look(self) -> Division:
        """Threads that are there now; none when the process is gone."""
        own = self._of(self._pid)
        named = own - self._known - self._vcpus
        self._vcpus = (self._vcpus & own) | frozenset(thread for thread in named if self._is_vcpu(thread))
        self._known, self._seen = own & self._seen, own  # a thread gets its name just after it begins: look at it twice
        if self._vcpus:
            return Division(self._vcpus, own - self._vcpus)
        return Division(own.union(*map(self._of, self._members())) if own else own)

    def _of(self, pid: int) -> Threads:
        with suppress(OSError):
            return frozenset((pid, int(name)) for name in os.listdir(self._proc_root / f"{pid}/task"))
        return frozenset()

    def _members(self) -> set[int]:
        found: set[int] = set()
        for folder, _, _ in os.walk(self._group) if self._group else ():
            with suppress(OSError), open(f"{folder}/cgroup.procs", encoding="ascii") as file:
                found.update(map(int, file.read().split()))
        return found - {self._pid}

    def _is_vcpu(self, thread: Thread) -> bool:
        with suppress(OSError):
            return (self._proc_root / "{}/task/{}/comm".format(*thread)).read_bytes().startswith(VCPU)
        return False
