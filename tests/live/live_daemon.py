"""The daemon as an operator runs it, in a process of its own, and what libvirt says of the guests meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from forestall.lab.site import Lab
from forestall.model.errors import StoreError
from forestall.model.resources import Resource
from forestall.service.control import ask

PATIENCE_SECONDS, LEASE_SECONDS, STEP_SECONDS = 150.0, 20, 1
MOMENT_SECONDS = 0.2
FORESTALL = (sys.executable, "-c", "import sys; from forestall.cli import main; sys.exit(main())")
SETTINGS = f"""\
step_seconds = {STEP_SECONDS}
cold_seconds = 8
violation_budget = 0.1
[safety]
lease_seconds = {LEASE_SECONDS}
stale_seconds = 15
crashes = 1000
"""
Held = Mapping[tuple[str, Resource], float]
"""What each guest holds of each resource."""
Ask = Callable[[], Held]


class Daemon:
    """``forestall run`` in a process of its own, and the commands that speak to it.

    Parameters
    ----------
    lab
        Whose guests.
    folder
        For settings and log.
    state
        State folder; inside ``folder`` unless given.
    settings
        The rest of the settings file.
    """

    def __init__(self, lab: Lab, folder: Path, state: Path | None = None, settings: str = SETTINGS) -> None:
        self.folder, self.state = folder, state or folder / "state"
        (folder / "forestall.toml").write_text(f'connect = "{lab.uri}"\nstate_folder = "{self.state}"\n{settings}')
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, mode: str) -> None:
        """Start it; it is not yet there when this returns."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen((*self._command("run"), "--mode", mode), stdout=log, stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it, one way or the other; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def ask(self, *command: str) -> Any:
        """What a command prints as JSON; None where it fails. What is asked all the time is asked without a command."""
        if command in (("status",), ("vms",)):
            try:
                return ask(self.state, {"command": command[0]}) if self.state.exists() else None
            except StoreError:
                return None
        done = self.call(*command, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self._command(*command), capture_output=True, text=True, check=False)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Run a watchdog beside it."""
        with self.log.open("ab") as log:
            watchdog = subprocess.Popen(self._command("watchdog"), stdout=log, stderr=log)
        try:
            yield
        finally:
            watchdog.terminate()
            watchdog.wait(PATIENCE_SECONDS)

    def until(self, true: Callable[[], Any], what: str, patience_seconds: float = PATIENCE_SECONDS) -> float:
        """Wait for a condition, and say for how long; fail with what was awaited and what the daemon said."""
        began = time.monotonic()
        while time.monotonic() < began + patience_seconds:
            with suppress(TypeError, KeyError, IndexError):
                if true():
                    return time.monotonic() - began
            time.sleep(MOMENT_SECONDS)
        pytest.fail(f"not within {patience_seconds:g} s: {what}\n{self.log.read_text()[-3000:]}\n{self.ask('vms')}")

    def until_it_has_changed_something(self, held: Ask, before: Held) -> None:
        """Wait until a guest holds something else than before."""
        self.until(lambda: held() != before, "a change")

    def until_all_is_back(self, held: Ask, before: Held) -> float:
        """Wait until every guest holds what it held, at most for a lease and what putting back takes."""
        return self.until(lambda: held() == before, f"everything back: {before}", LEASE_SECONDS + 10.0)

    def _command(self, *command: str) -> tuple[str, ...]:
        return (*FORESTALL, *command, "--config", str(self.folder / "forestall.toml"))


def load(lab: Lab, guest: str, level: float) -> None:
    """Set how much a guest has to do: 0 to 1, up to 3 if it is to be too much."""
    with lab.link(guest) as link:
        link.ask({"load": level}, PATIENCE_SECONDS)


def pass_time(seconds: float) -> None:
    """Let real guests work for so long."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, MOMENT_SECONDS))
