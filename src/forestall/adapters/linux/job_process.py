"""A job in a process of its own: it runs when others of its control group do not, with an end to what it may take.

How much of the processor the whole group may take says its unit (``CPUWeight``).
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from forestall.ports.job_book import CutOff

LOOK_SECONDS = 0.2
MOST_SECONDS, MOST_CPU_SECONDS, MOST_MEMORY_BYTES, MOST_FILE_BYTES = 14_400.0, 7_200, 8 << 30, 512 << 20
MOST_CPUS = 2
"""Of each process, but for the first, which is of all together; and on how many CPUs they run."""
OUTPUT = "output.txt"
LONGEST_WHY, LAST_BYTES = 500, 4_096
FROM_OUTSIDE = frozenset({-signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT, -signal.SIGHUP, 130})
"""How a process ends that somebody else has ended; 130: Forestall has heard such a signal, and ended."""


def run_job(command: Sequence[str], folder: Path, end: threading.Event) -> str:
    """Run a command in a folder until it ends, or is told to; why it failed, or nothing.

    What it says stands in ``output.txt`` there; the last line is why it failed. All that it started ends with it, and
    what an earlier one left running there ends before.

    Raises
    ------
    CutOff
        Somebody else has ended it.
    """
    end_those_in(folder)
    apart = dict.fromkeys(("TMPDIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "HOME"), str(folder))
    apart["FORESTALL_LOG"] = ""  # why it failed is for people
    until = time.monotonic() + MOST_SECONDS
    with (folder / OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            list(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, env={**os.environ, **apart},
        )  # fmt: skip
        _stand_back(process.pid)
        try:
            while (ended := process.poll()) is None and time.monotonic() < until and not end.wait(LOOK_SECONDS):
                pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if end.is_set():
        return "it was ended"
    if ended is None:
        return f"it has taken longer than {MOST_SECONDS:g} s"
    if ended in FROM_OUTSIDE:
        raise CutOff
    return _why(ended, folder / OUTPUT)


def end_those_in(folder: Path) -> None:
    """End processes that work in a folder: who started them has died, and they write there still."""
    place = folder.stat()
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if os.path.samestat((entry / "cwd").stat(), place) and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)


def _stand_back(pid: int) -> None:
    """Let everybody else go first; it may have ended already."""
    with suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(pid, sorted(os.sched_getaffinity(pid))[:MOST_CPUS])
    for kind, most, last in (
        (resource.RLIMIT_CPU, MOST_CPU_SECONDS, MOST_CPU_SECONDS + 60),  # SIGXCPU first, which says why
        (resource.RLIMIT_AS, MOST_MEMORY_BYTES, MOST_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, MOST_FILE_BYTES, MOST_FILE_BYTES),
    ):
        with suppress(OSError, ValueError):
            resource.prlimit(pid, kind, (most, last))


def _why(code: int, output: Path) -> str:
    if code == 0:
        return ""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    with output.open("rb") as file:
        file.seek(max(output.stat().st_size - LAST_BYTES, 0))
        lines = file.read().decode("utf-8", "replace").strip().splitlines() or [f"it ended with {code}"]
    return lines[-1].removeprefix("forestall: ")[:LONGEST_WHY]
