"""Jobs: one after the other, looked at while they run, ended, and begun again after they were cut off."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from daemons import wait_until

from forestall.adapters.files.job_book import FileJobBook
from forestall.adapters.linux import job_process
from forestall.adapters.linux.job_process import run_job
from forestall.model.errors import StoreError
from forestall.ports.job_book import Job, JobState
from forestall.service import jobs as module
from forestall.service.jobs import ENDED_SECONDS, MOST_BEGUN, MOST_WAITING, Doing, Jobs, TooManyJobs


def nothing(folder: Path) -> dict[str, Any]:
    """Needs nothing."""
    return {}


def given(folder: Path) -> dict[str, Any]:
    """Is given a file."""
    (folder / "in").write_text("hello")
    return {"a": 1}


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
        job = jobs.submit("shout", "ann", given)
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
        job = ended(jobs, jobs.submit("a", "ann", nothing).name)
        assert (job.state, job.why) == (JobState.FAILED, "there is no trace")
    with closing(started(tmp_path, script("import os; os.abort()"))) as jobs:
        assert ended(jobs, jobs.submit("a", "ann", nothing).name).why == "it was ended by SIGABRT"


def test_a_job_that_is_cancelled_ends_with_all_that_it_started(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '600']);"
        "open('pid', 'w').write(str(p.pid)); sys.stdout.flush(); p.wait()"
    )
    with closing(started(tmp_path, script(program))) as jobs:
        running, waiting = (jobs.submit("a", "ann", nothing) for _ in range(2))
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
        name = name or jobs.submit("a", "ann", nothing).name
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
        jobs.submit("a", "ann", nothing)
    with pytest.raises(TooManyJobs, match="wait already"):
        jobs.submit("a", "ann", nothing)


def test_what_cannot_be_prepared_is_no_job(tmp_path: Path) -> None:
    jobs = Jobs(FileJobBook(tmp_path), script(""))
    with pytest.raises(StoreError, match="cannot be prepared"):
        jobs.submit("a", "ann", lambda folder: {"": (folder / "none/none").write_text("")})
    assert jobs.views() == ()
    assert list((tmp_path / "jobs").iterdir()) == []


def test_what_has_ended_long_ago_is_forgotten_and_what_is_damaged_left_out(tmp_path: Path) -> None:
    with closing(started(tmp_path, script(""))) as jobs:
        old = ended(jobs, jobs.submit("a", "ann", nothing).name)
    (tmp_path / "jobs/damaged").mkdir()
    (tmp_path / "jobs/damaged/job.json").write_text('{"name": "damaged"}')
    with closing(started(tmp_path, script(""), lambda: time.time() + ENDED_SECONDS + 1)) as jobs:
        wait_until(lambda: not jobs.folder(old).exists(), "it is forgotten")
        assert jobs.views() == ()


def test_a_defect_of_one_job_does_not_hold_up_the_next(tmp_path: Path) -> None:
    def doing(job: Job, folder: Path, end: threading.Event) -> str:
        if job.kind == "bad":
            raise KeyError("what")
        return ""

    with closing(started(tmp_path, doing)) as jobs:
        bad, good = (jobs.submit(kind, "ann", nothing) for kind in ("bad", "good"))
        assert "KeyError" in ended(jobs, bad.name).why
        assert ended(jobs, good.name).state is JobState.DONE


def test_what_somebody_else_has_ended_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AFTER_CUT_OFF_SECONDS", 0.0)
    once = "import os, pathlib, signal; p = pathlib.Path('x'); first = not p.exists(); p.touch()\n"
    for ending in ("os.kill(os.getpid(), signal.SIGTERM)", "raise SystemExit(130)"):
        with closing(started(tmp_path, script(f"{once}if first: {ending}"))) as jobs:
            job = ended(jobs, jobs.submit("a", "ann", nothing).name)
            assert (job.state, job.begun, job.why) == (JobState.DONE, 2, "")


def test_what_an_earlier_one_left_running_is_ended_first(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    left = subprocess.Popen(["sleep", "600"], cwd=folder, start_new_session=True)
    elsewhere = subprocess.Popen(["sleep", "600"], cwd=tmp_path, start_new_session=True)
    try:
        assert run_job([sys.executable, "-c", ""], folder, threading.Event()) == ""
        assert left.wait(10) < 0
        assert elsewhere.poll() is None
    finally:
        for process in (left, elsewhere):
            process.kill()
            process.wait()


def test_a_job_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "MOST_SECONDS", 0.5)
    assert "longer than 0.5 s" in run_job(["sleep", "600"], tmp_path, threading.Event())


class FullBook(FileJobBook):
    """Refuses to be written, or to forget, when told to."""

    full = False

    def write(self, job: Job) -> None:
        if self.full:
            raise StoreError("the disk is full")
        super().write(job)

    def forget(self, name: str) -> None:
        if self.full:
            raise StoreError("the disk is full")
        super().forget(name)


def test_a_full_disk_ends_neither_the_others_nor_what_is_to_be_cancelled(tmp_path: Path) -> None:
    book = FullBook(tmp_path)
    jobs = Jobs(book, script("import time; open('began', 'w').write('x'); time.sleep(600)"))
    jobs.start()
    with closing(jobs):
        job = jobs.submit("a", "ann", nothing)
        wait_until((jobs.folder(job) / "began").exists, "it runs")
        book.full = True
        with pytest.raises(StoreError, match="full"):
            jobs.cancel(job.name)
        wait_until(lambda: jobs.view(job.name).state.has_ended, "it is ended all the same")  # type: ignore[union-attr]
        book.full = False
        nexts = jobs.submit("a", "ann", nothing)
        wait_until((jobs.folder(nexts) / "began").exists, "the next one runs")


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 150_000)
    (tmp_path / "jobs/unknown").mkdir(parents=True)
    with closing(started(tmp_path, script("open('out', 'wb').write(bytes(100_000))"))) as jobs:
        assert not (tmp_path / "jobs/unknown").exists(), "it was never kept"
        first, _ = (ended(jobs, jobs.submit("a", "ann", nothing).name) for _ in range(2))
        jobs.submit("a", "ann", nothing)
        wait_until(lambda: not jobs.folder(first).exists(), "the oldest is forgotten")
        assert jobs.view(first.name) is None


def test_what_a_job_was_given_goes_when_it_has_ended_however_it_ended(tmp_path: Path) -> None:
    cleared: list[str] = []
    slow = script("import time; time.sleep(600)")
    with closing(Jobs(FileJobBook(tmp_path), slow, clear=lambda folder: cleared.append(folder.name))) as jobs:
        jobs.start()
        running, waiting = (jobs.submit("a", "ann", nothing) for _ in range(2))
        wait_until(lambda: jobs.view(running.name).state is JobState.RUNNING, "it runs")  # type: ignore[union-attr]
        jobs.cancel(waiting.name)
        assert cleared == [waiting.name]
        jobs.cancel(running.name)
        wait_until(lambda: cleared == [waiting.name, running.name], "not before its process has ended")


def test_who_uses_up_the_processor_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "MOST_CPU_SECONDS", 1)
    assert run_job([sys.executable, "-c", "while True: pass"], tmp_path, threading.Event()) == "it was ended by SIGXCPU"
