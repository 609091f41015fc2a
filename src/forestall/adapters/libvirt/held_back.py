"""How much each VM was held back by its CPU quota lately: what it wanted cannot be seen in what it used."""

from __future__ import annotations

import math
from collections.abc import Mapping

from forestall.adapters.linux.cgroups import ControlGroups, Throttling
from forestall.adapters.linux.proc import Processes


class HeldBack:
    """Share of the quota's periods in which a VM was throttled, between two looks.

    Parameters
    ----------
    processes, groups
        Of this host.
    """

    def __init__(self, processes: Processes, groups: ControlGroups) -> None:
        self._processes, self._groups = processes, groups
        self._before: dict[str, tuple[int, Throttling]] = {}
        self._share: dict[str, float] = {}

    def look(self, process: Mapping[str, int | None]) -> None:
        """Read the counters of these VMs; the others are forgotten."""
        before, self._before, self._share = self._before, {}, {}
        for vm_id, pid in process.items():
            self._share[vm_id] = math.nan
            now = None if pid is None else self._groups.throttling(self._processes.control_groups(pid))
            if pid is None or now is None:
                continue
            self._before[vm_id] = (pid, now)
            if vm_id in before and before[vm_id][0] == pid:
                self._share[vm_id] = now.share_since(before[vm_id][1])

    def shares(self) -> Mapping[str, float]:
        """For each VM a share in [0, 1]; NaN where it is not known."""
        return dict(self._share)
