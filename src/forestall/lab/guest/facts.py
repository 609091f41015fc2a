"""What the kernel of a guest says about it, read from ``/proc`` and ``/sys``; see proc(5)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SECTOR_BYTES = 512
CPU_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
PRESSURES = ("cpu", "memory", "io")
DISK, INTERFACE = "vda", "eth0"


def cpu_seconds(root: Path = Path("/")) -> dict[str, float]:
    """Seconds that all CPUs together spent in each state since boot."""
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    values = (root / "proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return {field: int(value) / ticks_per_second for field, value in zip(CPU_FIELDS, values, strict=False)}


def memory_bytes(root: Path = Path("/")) -> dict[str, int]:
    """Total, free and available memory, bytes."""
    lines = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
    names = {"total": "MemTotal", "free": "MemFree", "available": "MemAvailable", "cached": "Cached"}
    return {name: int(lines[key].split()[0]) * 1024 for name, key in names.items()}


def disk_bytes(root: Path = Path("/")) -> dict[str, int]:
    """Bytes read from and written to the disk since boot."""
    for line in (root / "proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[2] == DISK:
            return {"read": int(fields[5]) * SECTOR_BYTES, "written": int(fields[9]) * SECTOR_BYTES}
    return {}


def network_bytes(root: Path = Path("/")) -> dict[str, int]:
    """Bytes received and sent since boot."""
    for line in (root / "proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == INTERFACE:
            fields = counters.split()
            return {"received": int(fields[0]), "sent": int(fields[8])}
    return {}


def pressure(root: Path = Path("/")) -> dict[str, dict[str, Mapping[str, float]]]:
    """Pressure stall information of CPU, memory and I/O, where the kernel has it: average (%) and total (s)."""
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for name in PRESSURES:
        try:
            lines = (root / "proc/pressure" / name).read_text().splitlines()
        except OSError:
            continue
        for kind, *pairs in map(str.split, lines):
            values = dict(pair.split("=") for pair in pairs)
            found.setdefault(name, {})[kind] = {
                "avg10_percent": float(values["avg10"]),
                "total_seconds": int(values["total"]) / 1e6,
            }
    return found


def kernel_arguments(root: Path = Path("/")) -> dict[str, str]:
    """Arguments of the kernel that are ours: ``forestall.KEY=VALUE``."""
    words = (root / "proc/cmdline").read_text().split()
    pairs = (word.removeprefix("forestall.").partition("=") for word in words if word.startswith("forestall."))
    return {key: value for key, _, value in pairs}
