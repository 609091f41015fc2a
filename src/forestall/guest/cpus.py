"""CPUs of this machine: which are there, which work, and switching them; Documentation/core-api/cpu_hotplug.rst."""

from __future__ import annotations

from pathlib import Path

CPUS = "sys/devices/system/cpu"


def cpus_online(root: Path = Path("/")) -> list[int]:
    """Numbers of the CPUs that work now."""
    return cpu_list((root / CPUS / "online").read_text())


def cpus_present(root: Path = Path("/")) -> list[int]:
    """Numbers of the CPUs that are plugged in."""
    return cpu_list((root / CPUS / "present").read_text())


def cpu_list(text: str) -> list[int]:
    """Numbers in a list such as ``0-2,5``."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def set_cpu_online(number: int, online: bool, root: Path = Path("/")) -> None:
    """Switch a CPU on or off; it is an error (OSError) where the guest cannot."""
    switch = root / CPUS / f"cpu{number}" / "online"
    if not switch.exists():
        if number == 0 and online:
            return
        raise OSError(f"CPU {number} cannot be switched")
    if switch.read_text().strip() != str(int(online)):
        switch.write_text(str(int(online)))
