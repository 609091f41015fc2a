"""The watchdog: what it puts back, and that it does not give up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.files.originals import FileOriginals
from forestall.adapters.files.restorations import FileRestorations
from forestall.model.decision import Action, Outcome, Result
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.ports.hypervisor import VmSettings
from forestall.service.watchdog import Watchdog

HEAVY = (
    "lightgbm",
    "onnxruntime",
    "torch",
    "scipy",
    "pandas",
    "duckdb",
    "pyarrow",
    "matplotlib",
    "forestall.learning",
    "forestall.demand.core",
)


class Pulse:
    """A daemon that is said to be dead."""

    why = "no daemon runs"

    def why_dead(self) -> str:
        """Why."""
        return self.why


class Host:
    """Puts back at the second attempt."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = 3

    def connect(self) -> Host:
        """Fails a few times, as while libvirtd is restarted."""
        if self.away:
            self.away -= 1
            raise HypervisorError("libvirtd is away")
        return self

    def put_back(self, settings: VmSettings) -> list[Outcome]:
        """Under way at first, then done."""
        self.asked.append(settings.vm_id)
        if self.asked.count(settings.vm_id) > 1:
            return []
        return [Outcome(Action(settings.vm_id, Resource.MEMORY, 1.0), Result.PENDING, None, "the balloon moves")]

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def originals(tmp_path: Path) -> FileOriginals:
    originals = FileOriginals(tmp_path)
    for name in ("a", "b"):
        originals.keep(VmSettings(name, "1", {}))
    return originals


def test_it_tries_until_everything_is_as_it_was(originals: FileOriginals, tmp_path: Path) -> None:
    host, clock, said, word = Host(), VirtualClock(), [], FileRestorations(tmp_path)
    watchdog = Watchdog(Pulse(), originals, host.connect, word, clock, said.append)
    watchdog.run(lambda: not originals.kept())
    assert host.asked == ["a", "b", "a", "b"]
    assert clock.monotonic() < 60
    assert said == [
        "not put back yet: a: libvirtd is away; b: libvirtd is away",
        "not put back yet: a: memory: the balloon moves; b: memory: the balloon moves",
        "no daemon runs: put back a, b",
    ]
    assert [(r.vm_id, r.why) for r in word.held()] == [(v, "by the watchdog: no daemon runs") for v in ("a", "b")]
    assert word.held()[0].at == int(clock.now())


def test_what_is_put_back_stays_so_where_no_word_can_be_left(originals: FileOriginals, tmp_path: Path) -> None:
    host, said, word = Host(), [], FileRestorations(tmp_path / "gone")
    Watchdog(Pulse(), originals, host.connect, word, VirtualClock(), said.append).run(lambda: not originals.kept())
    assert originals.kept() == ()
    assert any("cannot be used" in line and "stays so" in line for line in said)


def test_it_leaves_a_daemon_that_lives_alone(originals: FileOriginals, tmp_path: Path) -> None:
    pulse, host = Pulse(), Host()
    pulse.why = ""
    watchdog = Watchdog(pulse, originals, host.connect, FileRestorations(tmp_path), VirtualClock(), lambda line: None)
    assert watchdog.look() == ()
    assert len(originals.kept()) == 2
    assert not host.asked


def test_it_is_small(tmp_path: Path) -> None:
    call = (
        "import sys; from forestall.cli import main\n"
        f"code = main(['watchdog', '--once', '--connect', 'simulated:none', '--state-folder', {str(tmp_path)!r}])\n"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert found.stdout == "0 []\n"
