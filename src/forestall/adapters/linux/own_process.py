"""What this process may take of the host."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

LOWEST_PRIORITY = 19
KILLED_FIRST = 1000
"""The highest score of the kernel's out-of-memory killer, proc_pid_oom_score_adj(5)."""


def stand_back() -> None:
    """Run only when nobody else wants the CPU, and be the first to go when memory is short."""
    os.nice(LOWEST_PRIORITY)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(KILLED_FIRST), "utf-8")


def limit_cpu_seconds(seconds: int) -> None:
    """End this process by SIGXCPU once it has used so much CPU time."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
