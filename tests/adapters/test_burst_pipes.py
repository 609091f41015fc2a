"""The pipes between the daemon and the process of the burst loop, with small processes at the other end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_core_groups import wait_for

from forestall.adapters.linux.loop_process import LoopProcess

CHATTY = """
import sys, json, time
for k in range(20000):
    sys.stdout.write(json.dumps({"n": k, "padding": "x" * 100}) + "\\n")
sys.stdout.flush()
sys.stdin.read()
"""
LONG = """
import sys, json
sys.stdout.write(json.dumps({"n": 1, "padding": "x" * 300_000}) + "\\n")
sys.stdout.flush()
open(%r, "w").close()
sys.stdin.read()
"""
DEAF = "import time\ntime.sleep(600)\n"
ECHO = """
import sys, time
time.sleep(1.0)
for line in sys.stdin:
    sys.stdout.write(line)
    sys.stdout.flush()
"""


def process(code: str) -> LoopProcess:
    return LoopProcess([sys.executable, "-S", "-c", code])


@pytest.fixture
def ended() -> Iterator[list[LoopProcess]]:
    """Processes that are ended at the end."""
    processes: list[LoopProcess] = []
    yield processes
    for started in processes:
        if started._process is not None:
            started._process.kill()
        started.end()


def test_the_newest_status_is_told_however_many_there_were(ended: list[LoopProcess]) -> None:
    chatty = process(CHATTY)
    ended.append(chatty)
    chatty.begin()
    wait_for(lambda: chatty.status().get("n") == 19_999, "the last of many")
    assert chatty.silent_seconds() < 5.0


def test_a_long_status_is_there_whole_though_nobody_reads_meanwhile(ended: list[LoopProcess], tmp_path: Path) -> None:
    long = process(LONG % str(tmp_path / "said"))
    ended.append(long)
    long.begin()
    wait_for((tmp_path / "said").exists, "a status of 300 kB, written")
    assert long.status()["n"] == 1


def test_of_rosters_that_nobody_takes_the_newest_waits(ended: list[LoopProcess]) -> None:
    echo = process(ECHO)
    ended.append(echo)
    echo.begin()
    for k in range(300):
        echo.tell(b'{"roster": %d, "padding": "%s"}\n' % (k, b"x" * 10_000))  # far more than a pipe holds

    def heard_last() -> bool:
        echo.flush()
        return echo.status().get("roster") == 299

    wait_for(heard_last, "the newest roster")


def test_who_never_speaks_is_known_to_be_silent(ended: list[LoopProcess]) -> None:
    deaf = process(DEAF)
    ended.append(deaf)
    began = time.monotonic()  # silence counts from when it begins, and that may take a while
    deaf.begin()
    wait_for(lambda: deaf.silent_seconds() > 0.2, "silence")
    assert deaf.alive()
    assert time.monotonic() - began >= 0.19


def test_a_process_that_has_ended_takes_lines_without_complaint(ended: list[LoopProcess]) -> None:
    gone = process("pass")
    ended.append(gone)
    gone.begin()
    wait_for(lambda: not gone.alive(), "its end")
    gone.tell(b"{}\n")
    gone.flush()
    assert gone.status() == {}
    assert gone.end() == 0
    assert gone.end() is None
