"""A made-up access trace: two VMs, three programs; runs, a scrambled loop, and noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

ROWS = 9000


def accesses(rows: int = ROWS, seed: int = 3, late: int = 0) -> pd.DataFrame:
    """VM ``web`` reads runs and loops over scrambled blocks; VM ``db`` (from row ``late`` on) loops over pages."""
    rng = np.random.default_rng(seed)
    pools = {
        ("web", "nginx", "block"): (rng.integers(0, 1 << 50, rows // 16 + 1)[:, None] + np.arange(16)).ravel(),
        ("web", "cron", "block"): np.tile(rng.choice(1 << 62, 300, replace=False), rows // 300 + 1),
        ("db", "", "page"): np.tile(rng.choice(1 << 40, 150, replace=False), rows // 150 + 1),
    }
    streams = list(pools)
    turn = rng.choice(3, rows, p=[0.4, 0.3, 0.3])
    turn[:late][turn[:late] == 2] = 0
    taken = [0, 0, 0]
    found = []
    for k in turn.tolist():
        vm_id, program, kind = streams[k]
        found.append((vm_id, program, kind, int(pools[streams[k]][taken[k]])))
        taken[k] += 1
    frame = pd.DataFrame(found, columns=["vm_id", "program_id", "resource_type", "resource_id"])
    frame["resource_id"] = frame["resource_id"].astype(np.uint64)
    frame.insert(0, "sequence", 10 + 3 * np.arange(rows))
    frame["op"] = np.where(rng.random(rows) < 0.8, "r", "w")
    frame["size_bytes"] = 4096
    frame["timestamp_us"] = 1_000_000 + 250 * np.arange(rows)
    return frame
