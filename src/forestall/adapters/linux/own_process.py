"""What this process may take of the host."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

LOWEST_PRIORITY = 19
HIGHEST_PRIORITY = -20
KILLED_FIRST = 1000
"""The highest score of the kernel's out-of-memory killer, proc_pid_oom_score_adj(5)."""


def stand_back() -> None:
    """Run only when nobody else wants the CPU, and be the first to go when memory is short."""
    os.nice(LOWEST_PRIORITY)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(KILLED_FIRST), "utf-8")


def go_first() -> None:
    """Run before everybody else as soon as there is something to do, where the kernel allows it (sched(7))."""
    try:
        os.sched_setscheduler(
            0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
        )
    except OSError:
        with suppress(OSError):
            os.nice(HIGHEST_PRIORITY - os.nice(0))


def limit_cpu_seconds(seconds: int) -> None:
    """End this process by SIGXCPU once it has used so much CPU time."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
