"""Tasks of a replay in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from forestall.model.errors import ForestallError
from forestall.ports.workers import Progress


class ProcessWorkers:
    """:class:`~forestall.ports.workers.Workers` in processes of their own.

    Each resource is learned by one thread: lightgbm's own threads wait for each other in busy loops.

    Parameters
    ----------
    processes
        How many; 0: as many as there are cores.
    progress
        Is told how far tasks are.
    """

    def __init__(self, processes: int, progress: Progress) -> None:
        context = multiprocessing.get_context("spawn")
        self._ticks = context.Queue()
        self._progress = progress
        self._pool = ProcessPoolExecutor(
            processes or len(os.sched_getaffinity(0)), mp_context=context, initializer=_start, initargs=(self._ticks,)
        )

    def __enter__(self) -> ProcessWorkers:
        """Ready when made."""
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        """End the processes; at once, when the block is left with an error."""
        if kind is not None:
            for child in multiprocessing.active_children():
                child.terminate()
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def submit(self, name: str, steps: int, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """As in the port."""
        self._progress(name, 0, steps)
        return self._pool.submit(_run, name, steps, task, arguments)

    def result(self, future: Any) -> Any:
        """As in the port."""
        while not future.done():
            self._drain(wait_seconds=0.2)
        self._drain(wait_seconds=0.0)
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise ForestallError("a worker process died before it was done; was there too little memory?") from error

    def _drain(self, wait_seconds: float) -> None:
        try:
            while True:
                self._progress(*self._ticks.get(block=wait_seconds > 0, timeout=wait_seconds or None))
        except queue.Empty:
            return


_ticks: Any = None


def _start(ticks: Any) -> None:
    global _ticks
    _ticks = ticks


def _run(name: str, steps: int, task: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return task(*arguments, lambda done: _ticks.put((name, done, steps)))
