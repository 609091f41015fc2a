"""What a guest does, as a stream of operations: each a kind and a class of size.

The class is the number of doublings, halved: each is four times the one before. Operations that move data are measured
in KiB, the others are counted. In a window operations stand in the order of :data:`OPERATIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

OPERATIONS = (
    "read",
    "write",
    "sync",
    "receive",
    "send",
    "accept",
    "connect",
    "open",
    "map",
    "fork",
    "execute",
    "sleep",
    "wait",
    "lock",
    "fault",
    "major-fault",
    "disk-read",
    "disk-write",
    "packets-in",
    "packets-out",
    "switch",
)
"""Every operation; new ones are added at the end. Its position is how it is sent."""
NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
MAX_CLASS = 31

SYSTEM_CALLS = {
    "read": "read readv pread64 preadv preadv2 sendfile64 sendfile splice copy_file_range",
    "write": "write writev pwrite64 pwritev pwritev2",
    "sync": "fsync fdatasync sync syncfs sync_file_range msync",
    "receive": "recvfrom recvmsg recvmmsg",
    "send": "sendto sendmsg sendmmsg",
    "accept": "accept accept4",
    "connect": "connect",
    "open": "open openat openat2",
    "map": "mmap munmap mremap brk",
    "execute": "execve execveat",
    "sleep": "nanosleep clock_nanosleep",
    "wait": "poll ppoll select pselect6 epoll_wait epoll_pwait epoll_pwait2 io_getevents",
    "lock": "futex futex_waitv",
}
"""System calls of each operation that is counted by them."""
OPERATION_OF = {call: operation for operation, calls in SYSTEM_CALLS.items() for call in calls.split()}
MOVES_DATA = frozenset(["read", "write", "receive", "send"])
"""Operations whose calls return how many bytes they moved."""

FROM_FIELDS = {
    "fork": ("forks_per_s", 1.0),
    "fault": ("faults_per_s", 1.0),
    "major-fault": ("major_faults_per_s", 1.0),
    "disk-read": ("disk_read_bytes_per_s", 1024.0),
    "disk-write": ("disk_write_bytes_per_s", 1024.0),
    "packets-in": ("net_rx_packets_per_s", 1.0),
    "packets-out": ("net_tx_packets_per_s", 1.0),
    "switch": ("switches_per_s", 1.0),
}
"""Operations that are told by a field of a window: which, and what of it is one."""


def size_class(amount: float) -> int:
    """Class of an amount (a count, or KiB): 0 below one, 1 below four, 2 below sixteen, ..."""
    return min((int(amount).bit_length() + 1) // 2, MAX_CLASS)


class FromFields:
    """Amounts of operations from the values of a window.

    Parameters
    ----------
    names
        Of the values.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._places = [
            (name, names.index(field), 1.0 / unit) for name, (field, unit) in FROM_FIELDS.items() if field in names
        ]

    def amounts(self, values: Sequence[float], seconds: float) -> dict[str, float]:
        """Amount of each operation that took place in a window of so many seconds."""
        amounts = {}
        for name, place, scale in self._places:
            value = values[place]
            if value > 0.0:
                amounts[name] = value * seconds * scale
        return amounts


def coded(amounts: Mapping[str, float]) -> tuple[tuple[int, int], ...]:
    """(operation, class) pairs of amounts, in the order of :data:`OPERATIONS`."""
    return tuple(sorted((NUMBER[name], size_class(amount)) for name, amount in amounts.items()))
