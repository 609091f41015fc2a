"""The agent as the one file that it is, as a process at the end of a line."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.guest.bundle import write_bundle
from forestall.guest.wire import Frame, FrameReader, Kind, as_json, encode

PATIENCE = 20.0


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "forestall-guest")
    return tmp_path / "forestall-guest"


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A pseudo terminal, which takes bytes as they are: the host's end, and the device of the guest's."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    yield ours, os.ttyname(theirs)
    os.close(theirs)
    os.close(ours)


def _frames(ours: int, reader: FrameReader, wanted: Kind, count: int = 1) -> list[Frame]:
    """Frames until so many of a kind have come."""
    frames: list[Frame] = []
    deadline = time.monotonic() + PATIENCE
    while sum(frame.kind == wanted for frame in frames) < count:
        assert time.monotonic() < deadline, f"no {wanted!r} in {PATIENCE:.0f} s"
        if select.select([ours], [], [], 0.2)[0]:
            frames += reader.feed(os.read(ours, 65536))
    return frames


@pytest.fixture
def started(bundle: Path, line: tuple[int, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-sSE", str(bundle), "--device", line[1], "--hint-file", str(tmp_path / "hint")]
    process = subprocess.Popen([*command, "--no-system-calls", "--budget", "1"])
    yield process
    process.kill()
    process.wait()


def test_it_says_hello_looks_ten_times_a_second_and_answers(
    started: subprocess.Popen[bytes], line: tuple[int, str]
) -> None:
    ours, reader = line[0], FrameReader()
    frames = _frames(ours, reader, Kind.LONG, 2)
    assert frames[0].kind == Kind.HELLO
    assert json.loads(frames[0].payload)["agent"] == 1
    assert sum(frame.kind == Kind.SHORT for frame in frames) >= 5
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1))
    os.write(ours, encode(Kind.REQUEST, 5, 1, as_json({"id": 3, "do": "ping", "with": [1]})))
    reply = next(f for f in _frames(ours, reader, Kind.REPLY) if f.kind == Kind.REPLY)
    assert json.loads(reply.payload) == {"id": 3, "result": [1]}
    started.send_signal(signal.SIGTERM)
    assert started.wait(PATIENCE) == 0


def test_a_host_that_does_not_read_costs_it_nothing_but_frames(
    started: subprocess.Popen[bytes], line: tuple[int, str]
) -> None:
    """The terminal's buffer is 4 KiB: it is full in no time. What comes afterwards is whole frames again."""
    ours, reader = line[0], FrameReader()
    _frames(ours, reader, Kind.HELLO)
    time.sleep(1.5)  # nobody reads: the passage of time is what is tested
    frames = _frames(ours, reader, Kind.LONG, 3)
    numbers = [frame.sequence for frame in frames]
    assert numbers == sorted(set(numbers))
    assert not reader.dropped


def test_a_port_that_cannot_be_opened_is_waited_for(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-sSE", str(bundle), "--device", str(tmp_path / "none"), "--no-system-calls"]
    with subprocess.Popen([*command, "--hint-file", str(tmp_path / "hint")], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"No such file" in process.stderr.readline()
        assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.13"])
def test_it_runs_on_other_pythons(bundle: Path, version: str) -> None:
    """Where they are installed; that it needs nothing newer is checked by ``make check``, too."""
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"no python{version} here")
    ended = subprocess.run([python, "-sSE", str(bundle), "--window", "7"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--window" in ended.stderr
