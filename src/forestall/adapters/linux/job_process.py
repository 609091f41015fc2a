"""A job in a process of its own, behind everything else on the host, with an end to what it may take."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LOOK_SECONDS = 0.2
MOST_CPU_SECONDS, MOST_MEMORY_BYTES, MOST_FILE_BYTES = 7_200, 16 << 30, 2 << 30
OUTPUT = "output.txt"
LONGEST_WHY = 500


def run_job(command: Sequence[str], folder: Path, end: threading.Event) -> str:
    """Run a command in a folder until it ends, or is told to; why it failed, or nothing.

    What it says stands in ``output.txt`` there; the last line is why it failed. All that it started ends with it.
    """
    apart = {"TMPDIR": str(folder), "MPLCONFIGDIR": str(folder), "NUMBA_CACHE_DIR": str(folder), "HOME": str(folder)}
    with (folder / OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            list(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, env={**os.environ, **apart},
        )  # fmt: skip
        _stand_back(process.pid)
        try:
            while process.poll() is None and not end.wait(LOOK_SECONDS):
                pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if end.is_set():
        return "it was ended"
    return _why(process.returncode, folder / OUTPUT)


def _stand_back(pid: int) -> None:
    """Let everybody else go first; it may have ended already."""
    with suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    for kind, most in (
        (resource.RLIMIT_CPU, MOST_CPU_SECONDS),
        (resource.RLIMIT_AS, MOST_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, MOST_FILE_BYTES),
    ):
        with suppress(OSError, ValueError):
            resource.prlimit(pid, kind, (most, most))


def _why(code: int, output: Path) -> str:
    if code == 0:
        return ""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    lines = output.read_text("utf-8", "replace").strip().splitlines() or [f"it ended with {code}"]
    return lines[-1].removeprefix("forestall: ")[:LONGEST_WHY]
