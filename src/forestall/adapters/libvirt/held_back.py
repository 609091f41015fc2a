"""How much each VM was held back by its CPU quota lately: what it wanted cannot be seen in what it used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from forestall.adapters.linux.cgroups import ControlGroups, Throttling
from forestall.adapters.linux.proc import Processes


class HeldBack:
    """Share of the time between two looks in whose periods a VM was throttled.

    Parameters
    ----------
    processes, groups
        Of this host.
    monotonic
        Clock that never goes back, seconds.
    """

    def __init__(self, processes: Processes, groups: ControlGroups, monotonic: Callable[[], float]) -> None:
        self._processes, self._groups, self._monotonic = processes, groups, monotonic
        self._before: dict[str, tuple[int, float, Throttling]] = {}
        self._share: dict[str, float] = {}

    def look(self, process: Mapping[str, int | None]) -> None:
        """Read the counters of these VMs; the others are forgotten."""
        before, self._before, self._share = self._before, {}, {}
        for vm_id, pid in process.items():
            self._share[vm_id] = math.nan
            now = None if pid is None else self._groups.throttling(self._processes.control_groups(pid))
            if pid is None or now is None:
                continue
            at = self._monotonic()
            self._before[vm_id] = (pid, at, now)
            if vm_id in before and before[vm_id][0] == pid:
                _, earlier, then = before[vm_id]
                self._share[vm_id] = now.share_since(then, at - earlier)

    def shares(self) -> Mapping[str, float]:
        """For each VM a share in [0, 1]; NaN where it is not known."""
        return dict(self._share)
