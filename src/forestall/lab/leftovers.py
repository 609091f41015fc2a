"""What belongs to a lab outside its folder: processes and control groups; found by what they are, and removed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from forestall.lab.place import Place
from forestall.lab.plan import GUESTS
from forestall.model.errors import HypervisorError

ATTENDANT = "forestall.lab.attendant"
END_SECONDS, LOOK_SECONDS = 10.0, 0.02


def daemon_pids(place: Place) -> list[int]:
    """The lab's libvirtd."""
    wanted = str(place.daemon_configuration)
    return [pid for pid, words in _processes() if Path(words[0]).name == "libvirtd" and wanted in words]


def attendant_pids(place: Place) -> list[int]:
    """The lab's attendant."""
    return [pid for pid, words in _processes() if ATTENDANT in words and str(place.folder) in words]


def guest_pids(place: Place) -> dict[str, int]:
    """Processes of the lab's guests: QEMU with a domain of the lab's and a file in the lab's folder."""
    domains = {place.domain(plan.name): plan.name for plan in GUESTS}
    found = {}
    for pid, words in _processes():
        if not Path(words[0]).name.startswith("qemu-system") or "-name" not in words:
            continue
        said = words[words.index("-name") + 1 :][:1]
        domain = said[0].split(",")[0].removeprefix("guest=") if said else ""
        if domain in domains and any(f"{place.guest_folder(domains[domain])}/" in word for word in words):
            found[domains[domain]] = pid
    return found


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Every process with its command line."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if words[0]:
                    yield int(folder.name), words


def end(pids: Iterable[int]) -> None:
    """End processes: asked first, killed when they do not, and waited for."""
    handles = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            handles[pid] = os.pidfd_open(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for handle in handles.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
        deadline = time.monotonic() + END_SECONDS
        while any(map(_runs, handles)) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
    for handle in handles.values():
        os.close(handle)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not yet collected by its parent does not."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def remove_control_groups(place: Place, root: Path = Path("/sys/fs/cgroup")) -> None:
    """Remove the control groups of the lab's guests, in every hierarchy, the innermost first.

    The kernel may hold one for a moment after its last process has gone.
    """
    deadline = time.monotonic() + END_SECONDS
    while groups := _control_groups(place, root):
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    continue  # libvirtd, or the kernel, was faster
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise HypervisorError(f"the control group {folder} cannot be removed: {error}") from error
        time.sleep(LOOK_SECONDS)


def _control_groups(place: Place, root: Path) -> list[Path]:
    """Groups of the lab's guests; libvirt names them after their domains."""
    domains = [place.domain(plan.name) for plan in GUESTS]
    machines = [*root.glob("*/machine"), root / "machine"]
    return [group for at in machines for name in domains for group in at.glob(f"qemu-*-{name}.libvirt-qemu")]
