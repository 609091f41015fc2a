"""What the workers of all roles share: the level they are told, and what they say of their work."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall.lab.guest.arrivals import Arrivals
from forestall.lab.guest.facts import kernel_arguments

LEVEL_FILE, WORK_FILE = Path("/run/lab/level"), Path("/run/lab/work.json")
BACKLOG_JOBS = 3
SAY_SECONDS = 1.0
PAUSE_SECONDS = 0.1
LEVEL_SECONDS = 0.5


def told_port() -> int:
    """Port that this guest serves on, as its kernel was told."""
    return int(kernel_arguments()["port"])


class Told:
    """Load level (0-1) in force, looked up every half second; 0 before the reporter has told one."""

    def __init__(self) -> None:
        self._level, self._read_at = 0.0, float("-inf")

    def __call__(self) -> float:
        """Say the level."""
        if time.monotonic() - self._read_at >= LEVEL_SECONDS:
            self._read_at = time.monotonic()
            try:
                self._level = float(LEVEL_FILE.read_text())
            except (OSError, ValueError):
                self._level = 0.0
        return self._level


told_level = Told()


class Worklog:
    """Counts completed work and says so.

    Parameters
    ----------
    say
        Told what there is to say: pieces ``done``, ``latency_seconds`` of the last, ``queue``, ``backlog``.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self.say = say
        self.done = 0
        self.latency_seconds: float | None = None

    def completed(self, arrived_at: float) -> None:
        """Note a piece of work that arrived then (monotonic) and ends now."""
        self.done += 1
        self.latency_seconds = time.monotonic() - arrived_at

    def update(self, queue: int) -> None:
        """Say how things stand, while so many wait."""
        latency = None if self.latency_seconds is None else round(self.latency_seconds, 4)
        backlog = queue >= BACKLOG_JOBS
        self.say({"done": self.done, "latency_seconds": latency, "queue": queue, "backlog": backlog})


def say_in_file(work: dict[str, Any]) -> None:
    """Leave it where the reporter looks."""
    fresh = WORK_FILE.with_suffix(".new")
    fresh.write_text(json.dumps(work))
    fresh.replace(WORK_FILE)


def work_off(job: Callable[[], object], full_rate_per_second: float, limit: int) -> None:
    """Do a job whenever one has arrived, for ever; at most ``limit`` of them wait."""
    arrivals, log = Arrivals(full_rate_per_second, limit, told_level), Worklog(say_in_file)
    threading.Thread(target=_keep_saying, args=(arrivals, log), daemon=True).start()
    while True:
        if (arrived_at := arrivals.next()) is None:
            time.sleep(PAUSE_SECONDS)
        else:
            job()
            log.completed(arrived_at)


def _keep_saying(arrivals: Arrivals, log: Worklog) -> None:
    """Say how things stand, also in the middle of a long job."""
    while True:
        log.update(len(arrivals))
        time.sleep(SAY_SECONDS)
