"""Memory close to who will use it: which NUMA node a process runs on, and populating there.

Memory is taken from the node of the thread that populates it, unless its owner said otherwise (numatune of libvirt is
kept with the memory itself and goes first). That thread is ours, and may run far from the VM. Sources:
set_mempolicy(2), proc_pid_stat(5), admin-guide/mm/numa_memory_policy.rst, ABI/stable/sysfs-devices-node.
"""

from __future__ import annotations

import ctypes
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SET_POLICY = {"x86_64": 238, "aarch64": 237}.get(platform.machine())
_DEFAULT, _PREFERRED = 0, 1
_LAST_CPU = 39 - 3
"""Position of ``processor`` in /proc/PID/stat, counted behind the name."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class Nodes:
    """The NUMA nodes of this host.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._of_cpu: dict[int, int] = {}
        for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
            with suppress(OSError, ValueError):
                for cpu in _numbers((folder / "cpulist").read_text()):
                    self._of_cpu[cpu] = int(folder.name.removeprefix("node"))

    @property
    def several(self) -> bool:
        """Whether it makes a difference where memory is."""
        return len(set(self._of_cpu.values())) > 1

    def of(self, pid: int) -> int | None:
        """Node on which most threads of a process ran last; None where that makes no difference or is not known."""
        if not self.several:
            return None
        found = Counter[int]()
        for stat in (self._proc / f"{pid}/task").glob("*/stat"):
            with suppress(OSError, ValueError, IndexError, KeyError):
                found[self._of_cpu[int(stat.read_text().rpartition(")")[2].split()[_LAST_CPU])]] += 1
        return found.most_common(1)[0][0] if found else None


@contextmanager
def close_to(node: int | None) -> Iterator[bool]:
    """Take memory from a node while the block runs, as long as it has some; whether the kernel does so."""
    if node is None or _SET_POLICY is None:
        yield False
        return
    mask = (ctypes.c_ulong * 16)()
    mask[node // 64] = 1 << (node % 64)
    done = _LIBC.syscall(_SET_POLICY, _PREFERRED, mask, len(mask) * 64) == 0
    try:
        yield done
    finally:
        _LIBC.syscall(_SET_POLICY, _DEFAULT, None, 0)


def _numbers(text: str) -> list[int]:
    """The numbers of a list as the kernel writes it: ``0-3,8``."""
    parts = [part.partition("-") for part in text.strip().split(",") if part]
    return [number for low, _, high in parts for number in range(int(low), int(high or low) + 1)]
