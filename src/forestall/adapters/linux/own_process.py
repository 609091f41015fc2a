"""What this process may take of the host."""

from __future__ import annotations

import os
import resource
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

LOWEST_PRIORITY = 19
HIGHEST_PRIORITY, AHEAD_PRIORITY = -20, -10
KILLED_FIRST = 1000
"""The highest score of the kernel's out-of-memory killer, proc_pid_oom_score_adj(5)."""


def stand_back() -> None:
    """Run only when nobody else wants the CPU, and be the first to go when memory is short."""
    os.nice(LOWEST_PRIORITY)
    be_first_to_go()


def be_first_to_go() -> None:
    """Be ended before others, with all that is started from here, when memory is short."""
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


def go_ahead() -> None:
    """Run before others of the same kind, where the kernel allows it; for who does little and bounds it himself."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, AHEAD_PRIORITY)


class OwnCpus:
    """Where this thread runs: anywhere that it may, until told to prefer some CPUs."""

    def __init__(self) -> None:
        self._all = os.sched_getaffinity(0)

    def prefer(self, cpus: Collection[int]) -> None:
        """Run on these CPUs only, as far as they are allowed; anywhere if none of them is."""
        with suppress(OSError):
            os.sched_setaffinity(0, self._all & set(cpus) or self._all)


def limit_cpu_seconds(seconds: int) -> None:
    """End this process by SIGXCPU once it has used so much CPU time."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
