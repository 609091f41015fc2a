"""``proxmox``: automatic ballooning of Proxmox VE. Memory only.

    a VM gives memory while its free memory exceeds 25 % of its minimum, down to that minimum, and takes it otherwise;
    at most 100 MiB a VM every 10 s; changes under 10 MiB are left out

It moves when the host leaves its target of 80 % used memory, in proportion to the VMs' shares. Here the host is
always above it, because slack is only worth comparing where someone wants it back, and all shares are equal (the
default). The minimum, which a trace does not record, is a share of the limit and the knob; half is shipped here,
as in the manual's example (Proxmox itself presets minimum = limit, which is ``static``).

Source: https://github.com/proxmox/pve-manager/blob/master/PVE/AutoBalloon.pm,
https://github.com/proxmox/qemu-server, https://pve.proxmox.com/pve-docs/chapter-qm.html#qm_memory.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.peers.balloon import dead_band, paced
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.rolling import last_known

MEBIBYTE = 2.0**20
CYCLE_SECONDS = 10
STEP_BYTES = 100 * MEBIBYTE
LEAST_BYTES = 10 * MEBIBYTE
FREE_RATIO = 0.25


class Proxmox:
    """Minimum, and a quarter of it free."""

    name = "proxmox"
    shipped = 0.5
    knobs: tuple[float, ...] = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.9, 1.0)

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Leave out small changes; the rest depends on the minimum."""
        used = dead_band(last_known(block.demand, block.grid), np.full_like(block.demand, LEAST_BYTES))
        step = np.full_like(used, STEP_BYTES * max(1, block.grid.step_seconds // CYCLE_SECONDS))
        known = np.maximum.accumulate(~np.isnan(used), axis=0)

        def allocate(minimum_share: float) -> FloatArray:
            minimum = minimum_share * block.limit
            target = np.maximum(used + FREE_RATIO * minimum, minimum)
            moved = paced(np.minimum(target, block.limit), block.limit[0], step, step)
            return block.delayed(np.where(known, moved, np.nan))

        return allocate
