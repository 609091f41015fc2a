"""Small burst traces of services that work now and then, for tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

HOSTILE = "vm-<script>alert('x')</script>&\"><img src=x>"


def services(
    seconds: float = 8.0,
    window_ms: int = 25,
    names: tuple[str, ...] = ("web", "db", "cache"),
    seed: int = 0,
    late: dict[str, float] | None = None,
) -> pd.DataFrame:
    """A trace (window by window, VM by VM) that begins at 25 ms; VMs in ``late`` come after so many seconds."""
    rng = np.random.default_rng(seed)
    windows = int(seconds * 1000 / window_ms)
    at = 25_000 + 1000 * window_ms * np.arange(windows)
    parts = []
    for name in names:
        on = np.zeros(windows)
        start = 0.0
        while start < windows:
            start += rng.exponential(400 / window_ms) + 1
            on[int(start) : int(start + rng.gamma(2.0, 60 / window_ms)) + 1] = rng.uniform(0.3, 0.9)
        cores = np.clip(on * rng.normal(1.0, 0.08, windows) + 0.01 * rng.random(windows), 0.0, None)
        frame = pd.DataFrame({"vm_id": name, "time_us": at, "cpu_cores": cores})
        parts.append(frame[frame.time_us >= 1e6 * (late or {}).get(name, 0.0)])
    return pd.concat(parts).sort_values("time_us", kind="stable").reset_index(drop=True)
