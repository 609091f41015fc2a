"""Real daemons as processes of their own, over a simulated host whose VMs outlive them."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace
from forestall.replay.trace_writer import write_trace

DEADLINE_SECONDS = 90.0
CONFIGURATION = """\
resources = ["cpu", "memory"]
step_seconds = {step}
[safety]
lease_seconds = 10
crashes = {crashes}
"""


def steady_trace(vms: int, steps: int) -> Trace:
    """VMs that all run all the time and use about a fifth of what they have."""
    generator, shape = np.random.default_rng(11), (steps, vms)
    cpu = np.minimum(generator.gamma(20.0, 0.04, shape), 4.0)
    memory = 2.0**30 * (1.0 + 0.1 * generator.random(shape))
    limits = {Resource.CPU: np.full(shape, 4.0), Resource.MEMORY: np.full(shape, 2.0**33)}
    demand = {Resource.CPU: cpu, Resource.MEMORY: memory}
    return Trace(Grid(1_772_409_600, 300, steps), tuple(f"vm-{i}" for i in range(vms)), demand, limits)


class Site:
    """A folder with a trace, a configuration and a state folder; what was started is ended when the block is left."""

    def __init__(self, folder: Path, *, vms: int = 6, steps: int = 6000, step: int = 1, crashes: int = 100) -> None:
        self.folder, self.state = folder, folder / "state"
        write_trace(steady_trace(vms, steps), folder / "trace.parquet")
        (folder / "forestall.toml").write_text(CONFIGURATION.format(step=step, crashes=crashes))
        self.connect = f"simulated:{folder}/trace.parquet?clock=virtual"
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Site:
        """Nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def command(self, *words: str) -> list[str]:
        """A command on this site."""
        call = "import sys; from forestall.cli import main; sys.exit(main())"
        return [sys.executable, "-c", call, *words, "--state-folder", str(self.state), "--config",
                str(self.folder / "forestall.toml")]  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        process = subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._started.append(process)
        return process

    def daemon(self, mode: str = "enforce", *more: str, connect: str = "") -> subprocess.Popen[str]:
        """Start a daemon."""
        return self.start("run", "--connect", connect or self.connect, "--mode", mode, *more)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )

    def hang(self, process: subprocess.Popen[str]) -> None:
        """Stop a daemon in its tracks, but not while it holds the lock of the simulated host: a real host has none."""
        while True:
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: _state(process.pid) == "T", "the process is stopped")
            with (self.state / "simulated-host.lock").open() as lock, suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            process.send_signal(signal.SIGCONT)
            time.sleep(0.01)

    def altered(self) -> dict[str, Any]:
        """What is set on VMs."""
        path = self.state / "simulated-host.json"
        return dict(json.loads(path.read_text())["amounts"]) if path.exists() else {}

    def originals(self) -> list[str]:
        """VMs with an entry."""
        return sorted(path.stem for path in (self.state / "originals").glob("[!.]*.json"))


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, within a deadline."""
    until = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < until, f"waited too long: {what}"
        time.sleep(0.01)


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    """Send a signal and wait: exit code, and what was written to standard error."""
    process.send_signal(number)
    _, text = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, text


def _state(pid: int) -> str:
    """State of a process as in proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
