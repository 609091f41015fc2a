"""Jobs: what takes minutes is asked for, runs in a process of its own when those before it have ended, and is told of.

One runs at a time, behind the daemon and the API. A job that was cut off, because the process that looks after it
ended, is begun again with the next.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from forestall.model.errors import StoreError, WrongUse
from forestall.ports.job_book import CutOff, Job, JobBook, JobState

MOST_WAITING, MOST_ENDED, MOST_BYTES = 20, 100, 4 << 30
LOOK_SECONDS, AFTER_CUT_OFF_SECONDS = 60.0, 5.0
ENDED_SECONDS = 7 * 86_400.0
MOST_BEGUN = 3


class TooManyJobs(WrongUse):
    """So many wait that one more would not be done soon."""


Doing = Callable[[Job, Path, threading.Event], str]
"""Does a job in its folder, until told to end; why it failed, or nothing; or :class:`CutOff`."""
Prepare = Callable[[Path], Mapping[str, Any]]


class Jobs:
    """All jobs, and the thread that does them.

    Parameters
    ----------
    book
        Where they are kept.
    doing
        Does one.
    clear
        Removes what one was given, when it has ended.
    now
        Tells the time, seconds UTC.
    """

    def __init__(
        self,
        book: JobBook,
        doing: Doing,
        now: Callable[[], float] = time.time,
        clear: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        self._book, self._doing, self._now, self._clear = book, doing, now, clear
        self._jobs: dict[str, Job] = {}
        self._turn = threading.Condition()
        self._stop = threading.Event()
        self._end, self._running, self._prepared = threading.Event(), "", 0
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Take up what is kept, and begin; what was cut off waits again."""
        self._book.sweep()
        for job in self._book.read():
            if job.state is JobState.RUNNING:
                job = replace(job, state=JobState.WAITING)
            self._jobs[job.name] = job
        self._thread.start()

    def close(self) -> None:
        """End what runs; it is begun again with the next start."""
        with self._turn:
            self._stop.set()
            self._end.set()
            self._turn.notify_all()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def submit(self, kind: str, by: str, prepare: Prepare) -> Job:
        """Have something done.

        Parameters
        ----------
        prepare
            Puts what it needs into its folder, and says with what it is to be done.

        Raises
        ------
        TooManyJobs
            So many wait that this would not be done soon.
        StoreError
            It could not be kept.
        """
        with self._turn:
            waiting = sum(each.state is JobState.WAITING for each in self._jobs.values())
            if waiting + self._prepared >= MOST_WAITING:
                raise TooManyJobs(f"{MOST_WAITING} jobs wait already")
            self._prepared += 1
        try:
            return self._submitted(kind, by, prepare)
        finally:
            with self._turn:
                self._prepared -= 1

    def _submitted(self, kind: str, by: str, prepare: Prepare) -> Job:
        name = secrets.token_hex(8)
        folder = self._book.folder(name)
        try:
            try:
                folder.mkdir(parents=True, mode=0o700)
                job = Job(name, kind, prepare(folder), by, self._now())
            except OSError as error:
                raise StoreError(f"the job cannot be prepared: {error.strerror}") from error
            self._book.write(job)
        except BaseException:
            self._book.forget(name)
            raise
        with self._turn:
            self._jobs[name] = job
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
            if self._running == name:
                self._end.set()  # whatever becomes of keeping that
            job = self._keep(replace(job, state=JobState.CANCELLED, ended_at=self._now()))
            if self._running != name:
                self._tidy(job)
            return job

    def _tidy(self, job: Job) -> None:
        with suppress(OSError):
            self._clear(self.folder(job))

    def _keep(self, job: Job) -> Job:
        self._book.write(job)
        self._jobs[job.name] = job
        return job

    def _work(self) -> None:
        while not self._stop.is_set():
            self._tidy_up()
            if (job := self._next()) is None:
                continue
            try:
                why = self._doing(job, self.folder(job), self._end)
            except CutOff:
                self._ended(replace(job, state=JobState.WAITING))
                self._stop.wait(AFTER_CUT_OFF_SECONDS)  # whoever ended it may be about to end this process, too
                continue
            except Exception as error:  # whatever it is: the next one is done
                why = f"a defect: {type(error).__name__}: {error}".splitlines()[0]
            state = JobState.FAILED if why else JobState.DONE
            self._ended(replace(job, state=state, ended_at=self._now(), why=why))

    def _next(self) -> Job | None:
        """The next one to be done, which is running from now on; None: look again."""
        with self._turn:
            waiting = [each for each in self._jobs.values() if each.state is JobState.WAITING]
            if not waiting:
                self._turn.wait(LOOK_SECONDS)
                return None
            job = waiting[0]
            if job.begun >= MOST_BEGUN:
                why = f"it was begun {job.begun} times, and cut off each time"
                self._try_keep(replace(job, state=JobState.FAILED, ended_at=self._now(), why=why))
                self._tidy(job)
                return None
            job = replace(job, state=JobState.RUNNING, began_at=self._now(), begun=job.begun + 1)
            self._try_keep(job)
            self._running, self._end = job.name, threading.Event()
            if self._stop.is_set():
                self._end.set()
            return job

    def _ended(self, job: Job) -> None:
        """Keep what has become of one, unless it was cancelled, or all of this ends: then it is begun again."""
        with self._turn:
            self._running = ""
            if not self._jobs[job.name].state.has_ended and not self._stop.is_set():
                self._try_keep(job)
            if self._jobs[job.name].state.has_ended:
                self._tidy(job)

    def _try_keep(self, job: Job) -> None:
        try:
            self._keep(job)
        except StoreError:
            self._jobs[job.name] = job  # it is known here; after a new start it is done once more

    def _tidy_up(self) -> None:
        """Forget what has ended long ago, and as much as is needed to stay within bounds; the oldest first."""
        with self._turn:
            ended = [job for job in self._jobs.values() if job.state.has_ended]
        sizes = {job.name: self._book.size_bytes(job.name) for job in ended}
        total = sum(sizes.values())
        for number, job in enumerate(ended):
            too_many = len(ended) - number > MOST_ENDED or total > MOST_BYTES
            if not too_many and (job.ended_at or 0.0) >= self._now() - ENDED_SECONDS:
                continue
            with self._turn:
                self._jobs.pop(job.name, None)
            total -= sizes[job.name]
            with suppress(StoreError):  # it is tried again after the next start
                self._book.forget(job.name)
