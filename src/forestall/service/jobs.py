"""Jobs: what takes minutes is asked for, runs in a process of its own when those before it have ended, and is told of.

One runs at a time, behind everything else on the host. A job that was cut off, because the process that looks after it
ended, is begun again with the next.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from forestall.model.errors import ForestallError, StoreError, WrongUse
from forestall.ports.job_book import Job, JobBook, JobState

MOST_WAITING, MOST_ENDED = 20, 100
ENDED_SECONDS = 7 * 86_400.0
MOST_BEGUN = 3
Doing = Callable[[Job, Path, threading.Event], str]
"""Does a job in its folder, until told to end; why it failed, or nothing."""


class Jobs:
    """All jobs, and the thread that does them.

    Parameters
    ----------
    book
        Where they are kept.
    doing
        Does one.
    now
        Tells the time, seconds UTC.
    """

    def __init__(self, book: JobBook, doing: Doing, now: Callable[[], float] = time.time) -> None:
        self._book, self._doing, self._now = book, doing, now
        self._jobs: dict[str, Job] = {}
        self._turn = threading.Condition()
        self._stop = threading.Event()
        self._end: threading.Event | None = None
        self._running = ""
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Take up what is kept, and begin; what was cut off waits again."""
        for job in self._book.read():
            if job.state is JobState.RUNNING:
                job = replace(job, state=JobState.WAITING)
            self._jobs[job.name] = job
        self._thread.start()

    def close(self) -> None:
        """End what runs; it is begun again with the next start."""
        with self._turn:
            self._stop.set()
            if self._end is not None:
                self._end.set()
            self._turn.notify_all()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def submit(self, kind: str, asked: Mapping[str, Any], by: str, prepare: Callable[[Path], None]) -> Job:
        """Have something done; ``prepare`` puts what it needs into its folder.

        Raises
        ------
        WrongUse
            So many wait that this would not be done soon.
        StoreError
            It could not be kept.
        """
        job = Job(secrets.token_hex(8), kind, asked, by, self._now())
        with self._turn:
            if sum(each.state is JobState.WAITING for each in self._jobs.values()) >= MOST_WAITING:
                raise WrongUse(f"{MOST_WAITING} jobs wait already")
        folder = self._book.folder(job.name)
        try:
            try:
                folder.mkdir(parents=True, mode=0o700)
                prepare(folder)
            except OSError as error:
                raise StoreError(f"the job cannot be prepared: {error.strerror}") from error
            self._book.write(job)
        except ForestallError:
            self._book.forget(job.name)
            raise
        with self._turn:
            self._jobs[job.name] = job
            self._turn.notify_all()
        return job

    def views(self) -> tuple[Job, ...]:
        """All there are, the newest first."""
        with self._turn:
            return tuple(reversed(self._jobs.values()))

    def view(self, name: str) -> Job | None:
        """One of them; None: there is none."""
        with self._turn:
            return self._jobs.get(name)

    def folder(self, job: Job) -> Path:
        """What it was given, and what it wrote."""
        return self._book.folder(job.name)

    def cancel(self, name: str) -> Job | None:
        """Have a job not done, or not done to its end; one that has ended stays as it is."""
        with self._turn:
            job = self._jobs.get(name)
            if job is None or job.state.has_ended:
                return job
            job = replace(job, state=JobState.CANCELLED, ended_at=self._now())
            self._keep(job)
            if self._running == name and self._end is not None:
                self._end.set()
            return job

    def _keep(self, job: Job) -> None:
        self._jobs[job.name] = job
        self._book.write(job)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                why = self._doing(job, self.folder(job), self._end or threading.Event())
            except Exception as error:  # whatever it is: the next one is done
                why = f"a defect: {type(error).__name__}: {error}".splitlines()[0]
            self._ended(job.name, why)

    def _next(self) -> Job | None:
        """The next one to be done, which is running from now on; None: there will be none."""
        with self._turn:
            while not self._stop.is_set():
                self._tidy_up()
                for job in [each for each in self._jobs.values() if each.state is JobState.WAITING]:
                    if job.begun >= MOST_BEGUN:
                        why = f"it was begun {job.begun} times, and cut off each time"
                        self._try_keep(replace(job, state=JobState.FAILED, ended_at=self._now(), why=why))
                        continue
                    job = replace(job, state=JobState.RUNNING, began_at=self._now(), begun=job.begun + 1)
                    self._try_keep(job)
                    self._running, self._end = job.name, threading.Event()
                    return job
                self._turn.wait(60.0)
        return None

    def _ended(self, name: str, why: str) -> None:
        with self._turn:
            self._running, self._end = "", None
            job = self._jobs.get(name)
            if job is None or job.state.has_ended or self._stop.is_set():
                return
            state = JobState.FAILED if why else JobState.DONE
            self._try_keep(replace(job, state=state, ended_at=self._now(), why=why))

    def _try_keep(self, job: Job) -> None:
        try:
            self._keep(job)
        except StoreError:
            self._jobs[job.name] = job  # it is known here; after a new start it is done once more

    def _tidy_up(self) -> None:
        """Forget what has ended long ago."""
        ended = [job for job in self._jobs.values() if job.state.has_ended]
        old = [job for job in ended if (job.ended_at or 0.0) < self._now() - ENDED_SECONDS]
        for job in {each.name: each for each in (*old, *ended[: max(len(ended) - MOST_ENDED, 0)])}.values():
            self._book.forget(job.name)
            self._jobs.pop(job.name, None)
