"""Jobs: one after the other, looked at while they run, ended, and begun again after they were cut off."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from daemons import wait_until

from forestall.adapters.files.job_book import FileJobBook
from forestall.adapters.linux.job_process import run_job
from forestall.model.errors import StoreError, WrongUse
from forestall.ports.job_book import Job, JobState
from forestall.service.jobs import ENDED_SECONDS, MOST_BEGUN, MOST_WAITING, Doing, Jobs


def nothing(folder: Path) -> None:
    """Needs nothing."""


def script(text: str) -> Doing:
    """Does jobs by a program."""
    return lambda job, folder, end: run_job([sys.executable, "-c", text], folder, end)


def started(folder: Path, doing: Doing, now: Callable[[], float] = time.time) -> Jobs:
    """Jobs of a folder that are being done."""
    jobs = Jobs(FileJobBook(folder), doing, now)
    jobs.start()
    return jobs


def ended(jobs: Jobs, name: str) -> Job:
    """A job that has ended."""
    wait_until(lambda: (found := jobs.view(name)) is not None and found.state.has_ended, "it has ended")
    found = jobs.view(name)
    assert found is not None
    return found


def test_a_job_writes_into_its_folder(tmp_path: Path) -> None:
    with closing(started(tmp_path, script("open('out', 'w').write(open('in').read().upper())"))) as jobs:
        job = jobs.submit("shout", {"a": 1}, "ann", lambda folder: (folder / "in").write_text("hello") and None)
        assert ended(jobs, job.name).state is JobState.DONE
        assert (jobs.folder(job) / "out").read_text() == "HELLO"
    again = Jobs(FileJobBook(tmp_path), script(""))
    again.start()
    kept = again.view(job.name)
    assert kept is not None
    assert (kept.asked, kept.by, kept.state) == ({"a": 1}, "ann", JobState.DONE)
    again.close()


def test_why_it_failed_is_its_last_line(tmp_path: Path) -> None:
    failing = "import sys; print('first'); sys.exit('forestall: there is no trace')"
    with closing(started(tmp_path, script(failing))) as jobs:
        job = ended(jobs, jobs.submit("a", {}, "ann", nothing).name)
        assert (job.state, job.why) == (JobState.FAILED, "there is no trace")
    with closing(started(tmp_path, script("import os; os.abort()"))) as jobs:
        assert ended(jobs, jobs.submit("a", {}, "ann", nothing).name).why == "it was ended by SIGABRT"


def test_a_job_that_is_cancelled_ends_with_all_that_it_started(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '600']);"
        "open('pid', 'w').write(str(p.pid)); sys.stdout.flush(); p.wait()"
    )
    with closing(started(tmp_path, script(program))) as jobs:
        running, waiting = (jobs.submit("a", {}, "ann", nothing) for _ in range(2))
        pid = jobs.folder(running) / "pid"
        wait_until(lambda: pid.exists() and pid.read_text(), "it runs")
        assert jobs.cancel(waiting.name).state is JobState.CANCELLED  # type: ignore[union-attr]
        assert jobs.cancel(running.name).state is JobState.CANCELLED  # type: ignore[union-attr]
        child = Path("/proc") / pid.read_text() / "stat"
        wait_until(lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z", "all ended")
        assert ended(jobs, running.name).state is JobState.CANCELLED
        assert not (jobs.folder(waiting) / "pid").exists()
        assert jobs.cancel("none") is None


def test_what_was_cut_off_is_begun_again_but_not_for_ever(tmp_path: Path) -> None:
    name = ""
    for turn in range(1, MOST_BEGUN + 1):
        jobs = started(tmp_path, script("import time; open('began', 'a').write('x'); time.sleep(600)"))
        name = name or jobs.submit("a", {}, "ann", nothing).name
        began = tmp_path / "jobs" / name / "began"
        wait_until(lambda: began.exists() and len(began.read_text()) == turn, "it is begun")  # noqa: B023
        jobs.close()
    with closing(started(tmp_path, script(""))) as jobs:
        job = ended(jobs, name)
        assert (job.state, job.begun) == (JobState.FAILED, MOST_BEGUN)
        assert "cut off" in job.why


def test_no_more_wait_than_can_be_done_soon(tmp_path: Path) -> None:
    jobs = Jobs(FileJobBook(tmp_path), script(""))  # not started
    for _ in range(MOST_WAITING):
        jobs.submit("a", {}, "ann", nothing)
    with pytest.raises(WrongUse, match="wait already"):
        jobs.submit("a", {}, "ann", nothing)


def test_what_cannot_be_prepared_is_no_job(tmp_path: Path) -> None:
    jobs = Jobs(FileJobBook(tmp_path), script(""))
    with pytest.raises(StoreError, match="cannot be prepared"):
        jobs.submit("a", {}, "ann", lambda folder: (folder / "none/none").write_text("") and None)
    assert jobs.views() == ()
    assert list((tmp_path / "jobs").iterdir()) == []


def test_what_has_ended_long_ago_is_forgotten_and_what_is_damaged_left_out(tmp_path: Path) -> None:
    with closing(started(tmp_path, script(""))) as jobs:
        old = ended(jobs, jobs.submit("a", {}, "ann", nothing).name)
    (tmp_path / "jobs/damaged").mkdir()
    (tmp_path / "jobs/damaged/job.json").write_text('{"name": "damaged"}')
    with closing(started(tmp_path, script(""), lambda: time.time() + ENDED_SECONDS + 1)) as jobs:
        wait_until(lambda: not jobs.views(), "it is forgotten")
        assert not jobs.folder(old).exists()


def test_a_defect_of_one_job_does_not_hold_up_the_next(tmp_path: Path) -> None:
    def doing(job: Job, folder: Path, end: threading.Event) -> str:
        if job.kind == "bad":
            raise KeyError("what")
        return ""

    with closing(started(tmp_path, doing)) as jobs:
        bad, good = (jobs.submit(kind, {}, "ann", nothing) for kind in ("bad", "good"))
        assert "KeyError" in ended(jobs, bad.name).why
        assert ended(jobs, good.name).state is JobState.DONE
