"""Which control groups there are, and what the group of a VM can limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from forestall.adapters.host_facts.facts import CgroupFacts
from forestall.adapters.host_facts.roots import Roots, text_of

_MOUNT_ROOT = "/sys"


def read_cgroups(roots: Roots) -> CgroupFacts:
    """Read the layout from the mounts, and the controllers from the group of the first QEMU process."""
    unified, separate = _mounts(roots)
    layout = {(True, True): "hybrid", (True, False): "v2", (False, True): "v1"}.get((bool(unified), bool(separate)))
    pid = next(_qemu_pids(roots), None)
    controllers = _controllers_of(roots, pid, unified) if pid is not None else _all_controllers(unified, separate)
    return CgroupFacts(layout or "none", frozenset(controllers), pid, _idle_class(separate.get("cpu", unified)))


def _mounts(roots: Roots) -> tuple[Path | None, dict[str, Path]]:
    """Return where cgroup v2 is mounted, and by controller what is mounted as v1."""
    unified, separate = None, dict[str, Path]()
    for line in text_of(roots.proc / "mounts").splitlines():
        words = line.split()
        if len(words) < 4:
            continue
        if words[2] == "cgroup2":
            unified = _mounted(roots, words[1])
        elif words[2] == "cgroup":
            separate |= {word: _mounted(roots, words[1]) for word in words[3].split(",") if word in _KNOWN}
    return unified, separate


def _mounted(roots: Roots, folder: str) -> Path:
    return roots.sys / folder.removeprefix(_MOUNT_ROOT).lstrip("/")


def _idle_class(tree: Path | None) -> bool | None:
    """Whether groups of the controller cpu have an idle class; None where there is no group to look at."""
    groups = (path for path in sorted(tree.iterdir()) if path.is_dir()) if tree and tree.is_dir() else ()
    seen = next((path for path in groups if any((path / name).exists() for name in ("cpu.weight", "cpu.shares"))), None)
    return (seen / "cpu.idle").exists() if seen else None


_KNOWN = frozenset({"cpu", "cpuacct", "cpuset", "memory", "blkio", "io", "pids", "devices", "freezer", "net_cls"})


def _qemu_pids(roots: Roots) -> Iterator[int]:
    for path in sorted(roots.proc.glob("[0-9]*/comm")):
        if text_of(path).startswith("qemu-"):
            yield int(path.parent.name)


def _controllers_of(roots: Roots, pid: int, unified: Path | None) -> Iterator[str]:
    """Controllers in whose trees the process has a group of its own."""
    for line in text_of(roots.proc / str(pid) / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names:
            yield from (name for name in names.split(",") if path != "/" and name in _KNOWN)
        elif unified is not None:
            yield from text_of(unified / path.lstrip("/") / "cgroup.controllers").split()


def _all_controllers(unified: Path | None, separate: Iterable[str]) -> Iterator[str]:
    yield from separate
    if unified is not None:
        yield from text_of(unified / "cgroup.controllers").split()
