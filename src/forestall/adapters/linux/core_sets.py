"""Which CPUs a VM may run on: the cpuset of its group and, in version 1, of all groups inside. Standard library only.

In version 1 the CPUs of a group are always among those of the group around it, so that groups are narrowed from the
inside and widened from the outside. In version 2 the kernel takes the intersection by itself. Sources: cpuset(7),
admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

CPUS = "cpuset.cpus"


def cpus_of(text: str) -> frozenset[int]:
    """CPUs of a list as the kernel writes it.

    Examples
    --------
    >>> sorted(cpus_of("0-2,5"))
    [0, 1, 2, 5]
    """
    ranges = [part.partition("-") for part in text.split(",") if part.strip()]
    return frozenset(cpu for low, _, high in ranges for cpu in range(int(low), int(high or low) + 1))


def text_of(cpus: frozenset[int]) -> str:
    """A list of CPUs as the kernel writes it.

    Examples
    --------
    >>> text_of(frozenset({0, 1, 2, 5}))
    '0-2,5'
    """
    runs = (list(run) for _, run in groupby(enumerate(sorted(cpus)), lambda numbered: numbered[1] - numbered[0]))
    ends = ((run[0][1], run[-1][1]) for run in runs)
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ends)


def allowed(folder: Path) -> frozenset[int]:
    """CPUs that the members of a group may run on; empty where nothing tells."""
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", CPUS):
        if cpus := cpus_of(_read(folder / name)):
            return cpus
    return frozenset()


class CpuSets:
    """CPUs of one VM.

    Parameters
    ----------
    folder
        Its group, in the tree of the cpuset controller.

    Raises
    ------
    OSError
        The group has no cpuset.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = self.read()
        self._all = allowed(folder)

    def read(self) -> dict[str, str]:
        """What each group is set to, by its folder, outermost first."""
        found = {str(self.folder): (self.folder / CPUS).read_text("ascii").strip()}
        if not (self.folder / "cgroup.controllers").exists():  # version 1
            found |= {str(path.parent): _read(path) for path in sorted(self.folder.glob(f"**/*/{CPUS}"))}
        return found

    def narrow(self, cores: float, beside: int = 0) -> frozenset[int]:
        """Leave the VM as many whole CPUs, at least one, of those that it had when this object was made.

        The highest ones below the first ``beside``, which are somebody else's, as far as there are such.

        Returns
        -------
        frozenset of int
            Which they are.
        """
        # In version 2 a group without any CPU of the group around it has all of those.
        there = sorted(self._all & allowed(self.folder.parent) or self._all, reverse=True)
        count, skip = max(int(min(cores, len(there))), 1), beside % max(len(there), 1)
        chosen = frozenset([*there[skip:], *there[:skip]][:count])
        _set({folder: text_of(cpus_of(self._before.get(folder, "")) & chosen or chosen) for folder in self.read()})
        return chosen

    def restore(self, was: Mapping[str, str]) -> None:
        """Set every group as it was; one that has been made since, as the outermost."""
        outermost = was.get(str(self.folder), "")
        _set({folder: was.get(folder, outermost) for folder in self.read()})


def _set(wanted: Mapping[str, str]) -> None:
    """Set groups, named outermost first: to what they have and want together, then from inside to what they want.

    Of groups inside that go meanwhile nothing is wanted any more.
    """
    now = {folder: cpus_of(_read(Path(folder) / CPUS)) for folder in wanted}
    changed = [folder for folder, text in wanted.items() if cpus_of(text) != now[folder]]
    outermost = next(iter(wanted), "")
    for folder in changed:
        if wanted[folder] and not cpus_of(wanted[folder]) <= now[folder]:
            _write(folder, text_of(now[folder] | cpus_of(wanted[folder])), inside=folder != outermost)
    for folder in reversed(changed):
        if cpus_of(_read(Path(folder) / CPUS)) != cpus_of(wanted[folder]):
            _write(folder, wanted[folder], inside=folder != outermost)


def _write(folder: str, text: str, *, inside: bool) -> None:
    """Set the CPUs of a group; one inside another that has gone meanwhile needs none."""
    path = Path(folder) / CPUS
    try:
        path.write_text(f"{text}\n", "ascii")
    except OSError as error:
        if inside and error.errno in (errno.ENOENT, errno.ENODEV):
            return
        if text or error.errno != errno.ENOSPC:
            raise
        # Once given CPUs, a group with processes cannot be without (validate_change in kernel/cgroup/cpuset.c). With
        # all of the host's it has those of the group around it.
        path.write_text(f"{text_of(allowed(_root(path.parent)))}\n", "ascii")


def _root(folder: Path) -> Path:
    while (folder.parent / "cgroup.controllers").exists():
        folder = folder.parent
    return folder


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""
