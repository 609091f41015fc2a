"""The kernel's own accounting in ``/proc``: what is read for every window, and what once a second; see proc(5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import ClassVar

from forestall.guest.meter import Source

SECTOR_BYTES, KIB = 512, 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICK_SECONDS = 1.0 / os.sysconf("SC_CLK_TCK")
QUIET_SWITCHES = 12
"""So few switches in a window are the agent itself and the kernel's housekeeping."""
_NOT_DISKS = (b"loop", b"ram", b"zram", b"dm-", b"md", b"fd", b"sr")
_STACKED = (b"veth", b"docker", b"br-", b"virbr", b"bond", b"tun", b"tap", b"cni", b"flannel", b"cali")


class Stat(Source):
    """CPU time of all CPUs together, switches, forks, tasks.

    Attributes
    ----------
    hints
        What has moved since the read before: switches, ticks of CPU, soft interrupts of the network, of disks.
    """

    path = "proc/stat"
    counters = (
        *("cpu_user_cores", "cpu_system_cores", "cpu_interrupt_cores", "cpu_iowait_cores", "cpu_steal_cores"),
        *("switches_per_s", "forks_per_s"),
    )
    levels = ("running_tasks", "blocked_tasks")

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__(root)
        self.hints: tuple[int, ...] = ()
        self._marks: tuple[int, ...] = (0, 0, 0, 0)

    def parse(self, text: bytes) -> list[float]:
        """See proc(5): guest time is in user time already; what follows ``ctxt`` stands in a fixed order."""
        user, nice, system, _, iowait, irq, softirq, steal = map(int, text.split(None, 9)[1:9])
        tail = text[text.index(b"\nctxt ") :].split()
        switches, forks, running, blocked = int(tail[1]), int(tail[5]), int(tail[7]), int(tail[9])
        marks = (switches, user + nice + system, int(tail[14]) + int(tail[15]), int(tail[16]))
        self.hints = tuple(now - before for now, before in zip(marks, self._marks))
        self._marks = marks
        return [
            (user + nice) * TICK_SECONDS,
            system * TICK_SECONDS,
            (irq + softirq) * TICK_SECONDS,
            iowait * TICK_SECONDS,
            steal * TICK_SECONDS,
            switches,
            forks,
            running - 1.0,  # reading makes the reader run: it is not one of those that it counts
            blocked,
        ]


def _busy(hints: Sequence[int]) -> bool:
    return hints[0] > QUIET_SWITCHES or hints[1] > 0


class Schedstat(Source):
    """How long tasks waited for a CPU: Documentation/scheduler/sched-stats.rst."""

    path = "proc/schedstat"
    counters = ("runnable_wait_cores",)

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__(root)
        self._waited: dict[bytes, int] = {}
        self._total = 0

    def parse(self, text: bytes) -> list[float]:
        """The eighth field of each CPU, nanoseconds. A CPU that is switched on brings all it ever waited: not that."""
        lines = [line.split(b" ", 9) for line in text.split(b"\n") if line.startswith(b"cpu")]
        waited = {words[0]: int(words[8]) for words in lines}
        self._total += sum(now - self._waited[cpu] for cpu, now in waited.items() if cpu in self._waited)
        self._waited = waited
        return [self._total * 1e-9]

    def moved(self, hints: Sequence[int]) -> bool:
        """Only those who run can have waited."""
        return _busy(hints)


class Vmstat(Source):
    """Faults, allocations, paging, and what is free or dirty."""

    path = "proc/vmstat"
    counters = (
        *("faults_per_s", "major_faults_per_s", "allocated_bytes_per_s", "freed_bytes_per_s"),
        *("page_in_bytes_per_s", "page_out_bytes_per_s", "swap_in_bytes_per_s", "swap_out_bytes_per_s"),
    )
    levels = ("free_bytes", "dirty_bytes", "writeback_bytes")
    _NAMES: ClassVar = {
        b"pgfault": ("faults_per_s", 1),
        b"pgmajfault": ("major_faults_per_s", 1),
        b"pgfree": ("freed_bytes_per_s", PAGE_BYTES),
        b"pgpgin": ("page_in_bytes_per_s", KIB),
        b"pgpgout": ("page_out_bytes_per_s", KIB),
        b"pswpin": ("swap_in_bytes_per_s", PAGE_BYTES),
        b"pswpout": ("swap_out_bytes_per_s", PAGE_BYTES),
        b"nr_free_pages": ("free_bytes", PAGE_BYTES),
        b"nr_dirty": ("dirty_bytes", PAGE_BYTES),
        b"nr_writeback": ("writeback_bytes", PAGE_BYTES),
    }

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__(root)
        self._places: list[tuple[int, int, int]] = []
        self._words = 0

    def parse(self, text: bytes) -> list[float]:
        """Names and numbers by turns; where each stands is remembered, for it does not change while a kernel runs."""
        words = text.split()
        if len(words) != self._words:
            self._places, self._words = self._find(words), len(words)
        values = [0.0] * (len(self.counters) + len(self.levels))
        for place, position, unit in self._places:
            values[position] += int(words[place]) * unit
        return values

    def moved(self, hints: Sequence[int]) -> bool:
        """Only those who run fault."""
        return _busy(hints)

    def _find(self, words: list[bytes]) -> list[tuple[int, int, int]]:
        """For each number that counts: its place, what it belongs to, and its unit in bytes (or 1)."""
        names = (*self.counters, *self.levels)
        found = []
        for place, word in enumerate(words[::2]):
            name, unit = self._NAMES.get(word, ("", 0))
            if word.startswith(b"pgalloc_"):  # one for each zone
                name, unit = "allocated_bytes_per_s", PAGE_BYTES
            if name:
                found.append((2 * place + 1, names.index(name), unit))
        return found


class Diskstats(Source):
    """Requests and bytes of all whole disks: Documentation/admin-guide/iostats.rst."""

    path = "proc/diskstats"
    counters = (
        *("disk_reads_per_s", "disk_read_bytes_per_s", "disk_writes_per_s", "disk_write_bytes_per_s"),
        *("disk_flushes_per_s", "disk_busy_ratio"),
    )
    levels = ("disk_in_flight",)

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__(root)
        self._blocks = root / "sys/block"
        self._whole: dict[bytes, bool] = {}

    def parse(self, text: bytes) -> list[float]:
        """Sum over disks; partitions, and what lies on other disks, would count twice."""
        reads = read = writes = written = flushes = busy = in_flight = 0
        for line in text.split(b"\n"):
            words = line.split()
            if len(words) >= 14 and self._is_whole(words[2]):
                reads += int(words[3])
                read += int(words[5])
                writes += int(words[7])
                written += int(words[9])
                in_flight += int(words[11])
                busy += int(words[12])
                flushes += int(words[18]) if len(words) > 18 else 0
        return [reads, read * SECTOR_BYTES, writes, written * SECTOR_BYTES, flushes, busy * 1e-3, in_flight]

    def moved(self, hints: Sequence[int]) -> bool:
        """Requests end in a soft interrupt; those that someone waits for are seen on the way."""
        return hints[3] > 0 or _busy(hints)

    def _is_whole(self, name: bytes) -> bool:
        if name not in self._whole:
            if len(self._whole) > 4096:  # names that come and go must not pile up
                self._whole.clear()
            whole = not name.startswith(_NOT_DISKS) and (self._blocks / os.fsdecode(name)).exists()
            self._whole[name] = whole
        return self._whole[name]


class NetDev(Source):
    """Bytes and packets of all interfaces that are not stacked on others; the loopback by itself."""

    path = "proc/net/dev"
    counters = (
        *("net_rx_bytes_per_s", "net_rx_packets_per_s", "net_tx_bytes_per_s", "net_tx_packets_per_s"),
        "loopback_bytes_per_s",
    )

    def parse(self, text: bytes) -> list[float]:
        """A line for each interface, below two of titles."""
        rx = rx_packets = tx = tx_packets = loopback = 0
        for line in text.split(b"\n")[2:]:
            name, _, numbers = line.partition(b":")
            name, words = name.strip(), numbers.split()
            if name == b"lo":
                loopback += int(words[0])
            elif words and not name.startswith(_STACKED):
                rx += int(words[0])
                rx_packets += int(words[1])
                tx += int(words[8])
                tx_packets += int(words[9])
        return [rx, rx_packets, tx, tx_packets, loopback]

    def moved(self, hints: Sequence[int]) -> bool:
        """Packets that come, and the end of those that go, are soft interrupts."""
        return hints[2] > 0


class Meminfo(Source):
    """How memory is used."""

    path = "proc/meminfo"
    levels = (
        *("memory_total_bytes", "memory_available_bytes", "memory_cached_bytes", "memory_anonymous_bytes"),
        *("memory_shared_bytes", "memory_slab_bytes", "swap_used_bytes"),
    )
    _KEYS = (b"MemTotal", b"MemAvailable", b"Cached", b"AnonPages", b"Shmem", b"Slab")

    def parse(self, text: bytes) -> list[float]:
        """KiB by name."""
        lines = dict(line.split(b":", 1) for line in text.split(b"\n") if line)
        values = [float(lines[key].split()[0]) * KIB if key in lines else nan for key in self._KEYS]
        used = int(lines[b"SwapTotal"].split()[0]) - int(lines[b"SwapFree"].split()[0])
        return [*values, float(used * KIB)]


class Pressure(Source):
    """Share of the time in which tasks waited for a resource: Documentation/accounting/psi.rst."""

    def __init__(self, resource: str, kinds: tuple[str, ...] = ("some", "full"), root: Path = Path("/")) -> None:
        self.path = "proc/pressure/" + resource
        self.counters = tuple(f"pressure_{resource}_{kind}_ratio" for kind in kinds)
        self._kinds = kinds
        super().__init__(root)

    def parse(self, text: bytes) -> list[float]:
        """Totals, microseconds."""
        totals = {line.split(b" ", 1)[0].decode(): line.rpartition(b"total=")[2] for line in text.split(b"\n")}
        return [int(totals[kind]) * 1e-6 for kind in self._kinds]


class Snmp(Source):
    """Connections of TCP, and datagrams of UDP: RFC 4022, RFC 4113."""

    path = "proc/net/snmp"
    counters = ("tcp_opened_per_s", "tcp_accepted_per_s", "tcp_retransmitted_per_s", "udp_rx_per_s", "udp_tx_per_s")
    levels = ("tcp_established",)

    def parse(self, text: bytes) -> list[float]:
        """For each protocol a line of names, and one of numbers."""
        lines = text.split(b"\n")
        tables = {
            names.split(b":")[0]: dict(zip(names.split(), numbers.split()))
            for names, numbers in zip(lines[::2], lines[1::2])
        }
        tcp, udp = tables[b"Tcp"], tables[b"Udp"]
        values = [tcp[b"ActiveOpens"], tcp[b"PassiveOpens"], tcp[b"RetransSegs"]]
        values += [udp[b"InDatagrams"], udp[b"OutDatagrams"], tcp[b"CurrEstab"]]
        return [float(value) for value in values]


class Sockstat(Source):
    """Sockets in use."""

    path = "proc/net/sockstat"
    levels = ("sockets",)

    def parse(self, text: bytes) -> list[float]:
        """The first line: ``sockets: used N``."""
        return [float(text.split(b"\n", 1)[0].split()[2])]


def fast_sources(root: Path = Path("/")) -> tuple[Stat, list[Source]]:
    """What is read for every short window: first what tells whether the others have moved."""
    return Stat(root), [kind(root) for kind in (Schedstat, Vmstat, Diskstats, NetDev)]


def slow_sources(root: Path = Path("/")) -> list[Source]:
    """What is read once a second."""
    pressures = [Pressure("cpu", ("some",), root), Pressure("memory", root=root), Pressure("io", root=root)]
    return [Meminfo(root), Snmp(root), Sockstat(root), *pressures]
