from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from real_core_groups import UNIFIED, RealGroup, real_groups, wait_for

from forestall.adapters.linux.core_guard import ALL_WELL, NOT_PUT_BACK, SILENCE, CoreGuard, Covered
from forestall.adapters.linux.core_host import LinuxCoreHost
from forestall.ports.cores import Guest, Part
from forestall.ports.hypervisor import VmSettings

WITHIN_SECONDS = 1.0
SLEEPER = "import time\ntime.sleep(600)\n"
PARENT = """
import json, os, sys, time
from forestall.adapters.linux.core_guard import CoreGuard
from forestall.adapters.linux.core_host import LinuxCoreHost
from forestall.ports.cores import Guest, Part
name, pid, beats, child = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "beats", sys.argv[4] == "child"
host, guard = LinuxCoreHost(time.monotonic, whole_cores=True), CoreGuard(pulse_seconds=0.5)
host.attach([Guest(name, name, pid, Part.BORROWER)])
guard.begin()
guard.cover(host.settings(name))
assert not host.limit({name: 0.25}) and not host.make_way(name)
forked = os.fork() if child else 0
if child and not forked:
    time.sleep(600)
print(json.dumps([guard._process.pid, forked]), flush=True)
while True:
    time.sleep(0.02)
    if beats:
        guard.beat()
"""


@pytest.fixture
def group() -> Iterator[RealGroup]:
    with real_groups(SLEEPER) as (made,):
        yield made


def state_of(group: RealGroup) -> dict[str, str]:
    # In version 2 a group that had none of its own has all of them by name afterwards.
    return group.state() | {
        "cpus": (group.cpuset / ("cpuset.cpus.effective" if UNIFIED else "cpuset.cpus")).read_text()
    }


class Parent:
    """A process that limits a group, with a guard."""

    def __init__(self, group: RealGroup, *, beats: bool = True, child: bool = False) -> None:
        words = [group.name, str(group.pid), "beats" if beats else "", "child" if child else ""]
        self.process = subprocess.Popen([sys.executable, "-c", PARENT, *words], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.guard, self.forked = json.loads(self.process.stdout.readline() or "[0, 0]")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.forked:
            os.kill(self.forked, signal.SIGKILL)


def is_put_back(group: RealGroup, state: dict[str, str], seconds: float = WITHIN_SECONDS) -> None:
    wait_for(lambda: state_of(group) == state, "the group is as it was", seconds)


@pytest.mark.parametrize("attempt", range(5))
def test_a_killed_process_leaves_nothing_limited(group: RealGroup, attempt: int) -> None:
    state = state_of(group)
    with closing(Parent(group)) as parent:
        assert state_of(group) != state
        parent.process.send_signal(signal.SIGKILL)
        is_put_back(group, state)
        wait_for(lambda: not Path(f"/proc/{parent.guard}").exists(), "the guard has ended")


def test_a_child_that_has_inherited_the_pipe_changes_nothing(group: RealGroup) -> None:
    state = state_of(group)
    with closing(Parent(group, child=True)) as parent:
        parent.process.send_signal(signal.SIGKILL)
        is_put_back(group, state, 0.4)  # before the silence would be noticed


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_of_a_group_does_not_end_the_guard_first(group: RealGroup, stop: signal.Signals) -> None:
    state = state_of(group)
    with closing(Parent(group)) as parent:
        os.kill(parent.guard, stop)
        parent.process.send_signal(signal.SIGKILL)
        is_put_back(group, state)


def test_a_process_that_hangs_counts_as_gone(group: RealGroup) -> None:
    state = state_of(group)
    with closing(Parent(group)) as parent:
        limited = state_of(group)
        parent.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        is_put_back(group, state, 0.5 + WITHIN_SECONDS)
        assert time.monotonic() - began > 0.3, "not before it was silent for long enough"
        assert limited != state


def test_a_process_without_pulse_hears_how_its_guard_ended(group: RealGroup) -> None:
    state, guard, host = state_of(group), CoreGuard(pulse_seconds=0.2), LinuxCoreHost(time.monotonic)
    host.attach([Guest(group.name, "1", group.pid, Part.BORROWER)])
    guard.begin()
    guard.cover(host.settings(group.name))
    host.limit({group.name: 0.25})
    wait_for(lambda: not guard.alive(), "the guard has ended")
    assert state_of(group) == state
    assert guard.end() == SILENCE
    host.close()


def test_without_anybody_covered_no_pulse_is_needed() -> None:
    guard = CoreGuard(pulse_seconds=0.1)
    guard.begin()
    until = time.monotonic() + 0.4
    wait_for(lambda: not guard.alive() or time.monotonic() > until, "some time has passed")
    assert guard.alive()
    assert guard.end() == ALL_WELL


def test_another_guard_covers_all_that_the_killed_one_did(group: RealGroup) -> None:
    state, guard, host = state_of(group), CoreGuard(pulse_seconds=60.0), LinuxCoreHost(time.monotonic)
    host.attach([Guest(group.name, "1", group.pid, Part.BORROWER)])
    guard.begin()
    guard.cover(host.settings(group.name))
    host.limit({group.name: 0.25})
    limited = state_of(group)
    assert guard.alive()
    _kill(guard)
    wait_for(lambda: not guard.alive(), "it is seen that the guard has ended")
    assert state_of(group) == limited, "a guard that was killed puts nothing back"
    guard.beat()
    guard.begin()
    assert guard.alive()
    assert guard.end() == ALL_WELL
    assert state_of(group) == state
    host.close()


def test_who_is_covered_while_no_guard_lives_is_covered_by_the_next(group: RealGroup) -> None:
    state, guard, host = state_of(group), CoreGuard(pulse_seconds=60.0), LinuxCoreHost(time.monotonic)
    host.attach([Guest(group.name, "1", group.pid, Part.BORROWER)])
    guard.cover(host.settings(group.name))
    assert not guard.alive()
    guard.begin()
    host.limit({group.name: 0.25})
    guard.end()
    assert state_of(group) == state
    host.close()


def test_who_is_released_is_left_alone(group: RealGroup) -> None:
    guard, host = CoreGuard(), LinuxCoreHost(time.monotonic)
    host.attach([Guest(group.name, "1", group.pid, Part.BORROWER)])
    guard.begin()
    guard.cover(host.settings(group.name))
    host.limit({group.name: 0.25})
    limited = state_of(group)
    guard.release(group.name)
    guard.release("nobody")
    assert guard.end() == ALL_WELL
    assert guard.end() == ALL_WELL
    assert state_of(group) == limited
    host.close()


def test_what_cannot_be_put_back_is_said_and_hinders_no_other(
    group: RealGroup, capfd: pytest.CaptureFixture[str]
) -> None:
    state, guard, host = state_of(group), CoreGuard(), LinuxCoreHost(time.monotonic)
    host.attach([Guest(group.name, "1", group.pid, Part.BORROWER)])
    settings = host.settings(group.name)
    guard.begin()
    damaged: dict[str, Any] = dict(settings.values) | {"cpu": {}}
    guard.cover(VmSettings("damaged", "1", damaged))
    guard.cover(settings)
    host.limit({group.name: 0.25})
    assert guard.end() == NOT_PUT_BACK
    assert state_of(group) == state
    assert "damaged could not be put back" in capfd.readouterr().err
    host.close()


def test_a_guard_that_does_not_read_is_not_waited_for() -> None:
    guard = CoreGuard(pulse_seconds=60.0)
    guard.begin()
    process = guard._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    for i in range(2000):
        guard.cover(VmSettings(f"vm{i}", "1", {"pid": 1, "birth": "", "text": "x" * 200}))
    assert not guard.alive()
    for i in range(2000):
        guard.release(f"vm{i}")
    began = time.monotonic()
    guard.begin()
    assert guard.alive()
    assert time.monotonic() - began < 5.0, "the old guard, which stands still, is not waited for"
    assert guard.end() == ALL_WELL


def test_lines_may_come_in_pieces() -> None:
    covered = Covered()
    for piece in (
        b'{"cover": "a", "val',
        b'ues": {"pid": 1}}\n{}\n{"cover": "b", "values": {}}\n{"rel',
        b'ease": "b"}\n{"cov',
    ):
        covered.hear(piece)
    assert covered.values == {"a": {"pid": 1}}


def test_the_guard_needs_the_standard_library_only() -> None:
    code = "import sys, forestall.adapters.linux.core_guard; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def _kill(guard: CoreGuard) -> None:
    process = guard._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
