"""A training as a child process: the history is written out beside the loop, then ``forestall model train`` is run.

The child lowers its own priority, offers itself to the kernel first when memory is short, and has a budget of CPU time
(see ``forestall model train --cpu-seconds``). Its last line says why it failed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from forestall.model.errors import ForestallError
from forestall.model.samples import Trace

END_WITHIN_SECONDS = 5.0
LOG = "log.txt"


class TrainingProcess:
    """Trains, one at a time.

    Parameters
    ----------
    folder
        For the history and the log; swept before each training.
    history
        Gives the history in parts, oldest first; asked in a thread of its own.
    write
        Writes a part to a file.
    command
        Command that trains on the folder of parts, which is put in place of ``{trace}``.
    """

    def __init__(
        self,
        folder: Path,
        history: Callable[[], Iterator[Trace]],
        write: Callable[[Trace, Path], None],
        command: Sequence[str],
    ) -> None:
        self._folder, self._history, self._write = folder, history, write
        self._command = tuple(command)
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._failed = ""
        self._abandoned = False

    def begin(self) -> None:
        """Start; returns at once."""
        self._failed, self._abandoned, self._child = "", False, None
        self._thread = threading.Thread(target=self._prepare, name="training", daemon=True)
        self._thread.start()

    def ended(self) -> str | None:
        """None while it runs; then how it ended, in words, empty if well, once."""
        if self._thread is not None and self._thread.is_alive():
            return None
        if self._failed or self._child is None:
            self._thread = None
            shutil.rmtree(self._folder / "trace", ignore_errors=True)
            return self._failed or "nothing was started"
        code = self._child.poll()
        if code is None:
            return None
        self._thread = self._child = None
        shutil.rmtree(self._folder / "trace", ignore_errors=True)
        if code == -signal.SIGXCPU:
            return "its budget of CPU time is spent"
        return "" if code == 0 else f"exit code {code}: {self._last_line()}"

    def abandon(self) -> None:
        """End the one that runs, if any, within a few seconds."""
        self._abandoned = True
        if self._thread is not None:
            self._thread.join(END_WITHIN_SECONDS)
        if self._child is None or self._child.poll() is not None:
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, how)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(END_WITHIN_SECONDS)
                return

    def _prepare(self) -> None:
        """Write the history out, and start the child; in a thread."""
        trace = self._folder / "trace"
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            trace.mkdir(parents=True)
            parts = 0
            for parts, part in enumerate(self._history(), start=1):
                if self._abandoned:
                    return
                self._write(part, trace / f"part-{parts:05d}.parquet")
            if not parts:
                self._failed = "there is no history yet"
                return
            with (self._folder / LOG).open("wb") as log:
                if not self._abandoned:
                    command = [word.replace("{trace}", str(trace)) for word in self._command]
                    self._child = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                    )
        except (OSError, ForestallError) as error:
            self._failed = str(error)

    def _last_line(self) -> str:
        try:
            lines = (self._folder / LOG).read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return "no log"
        return lines[-1][:300] if lines else "it said nothing"
