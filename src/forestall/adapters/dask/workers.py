"""Tasks on the workers of a Dask cluster: the same functions with the same arguments, so the same results.

Source: https://distributed.dask.org. A cluster runs whatever its clients send it; it belongs into a network that only
they reach, or behind ``tls://`` with certificates in Dask's configuration.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from distributed import Client, Future, KilledWorker, get_worker
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError

from forestall import __version__
from forestall.model.errors import ForestallError, WrongUse
from forestall.ports.workers import Progress

TOPIC = "forestall"
CONNECT_SECONDS = 10
TICK_SECONDS = 0.5
ALONE_SECONDS = 60.0


class DaskWorkers:
    """:class:`~forestall.ports.workers.Workers` of a cluster.

    Parameters
    ----------
    address
        Of its scheduler, as ``tcp://10.0.0.1:8786``.
    progress
        Is told how far tasks are.

    Raises
    ------
    WrongUse
        There is no scheduler, or a worker has another version of Forestall.
    """

    def __init__(self, address: str, progress: Progress) -> None:
        self._address, self._progress = address, progress
        self._ticks: queue.SimpleQueue[tuple[str, int, int]] = queue.SimpleQueue()
        self._futures: list[Future] = []
        self._alone_since: float | None = None
        try:
            self._client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise WrongUse(f"{address}: no Dask scheduler answers: {error}") from error
        try:
            self._topic = f"{TOPIC}-{self._client.id}"
            self._client.subscribe_topic(self._topic, lambda event: self._ticks.put(event[1]))
            others = {name for name in self._client.run(_version).values() if name != __version__}
            if others:
                raise WrongUse(
                    f"{address}: workers have Forestall {', '.join(sorted(others))}, and this is {__version__}"
                )
        except BaseException:
            self._client.close()
            raise

    def __enter__(self) -> DaskWorkers:
        """Ready when made."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Leave the cluster; what still runs is of no use to anybody."""
        if kind is not None:
            self._client.cancel(self._futures)
        self._client.close()

    def submit(self, name: str, steps: int, task: Callable[..., Any], *arguments: Any) -> Future:
        """As in the port."""
        self._progress(name, 0, steps)
        sent = [self._client.scatter(each, hash=False) if _is_large(each) else each for each in arguments]
        future = self._client.submit(_run, self._topic, name, steps, task, *sent, pure=False, key=f"{name}-{id(self)}")
        self._futures.append(future)
        return future

    def result(self, future: Future) -> Any:
        """As in the port."""
        while not future.done():
            self._pass_on(wait_seconds=0.2)
            self._refuse_to_wait_for_nobody()
        self._pass_on(wait_seconds=0.0)
        try:
            return future.result()
        except KilledWorker as error:
            raise ForestallError("a worker process died before it was done; was there too little memory?") from error
        except (CommClosedError, NoValidWorkerError, OSError) as error:
            raise ForestallError(f"{self._address}: the Dask cluster is gone: {error}") from error

    def _pass_on(self, wait_seconds: float) -> None:
        try:
            while True:
                self._progress(*self._ticks.get(block=wait_seconds > 0, timeout=wait_seconds or None))
        except queue.Empty:
            return

    def _refuse_to_wait_for_nobody(self) -> None:
        """A cluster without workers, or without its scheduler, computes nothing however long one waits."""
        now = time.monotonic()
        if self._client.status == "running" and self._client.scheduler_info().get("workers"):
            self._alone_since = None
            return
        self._alone_since = now if self._alone_since is None else self._alone_since
        if now - self._alone_since > ALONE_SECONDS:
            raise ForestallError(f"{self._address}: for {ALONE_SECONDS:.0f} s no worker of the Dask cluster was there")


def _version() -> str:
    """Of Forestall, where this runs."""
    from forestall import __version__ as version

    return version


def _is_large(argument: Any) -> bool:
    """Whether something is sent beside the task rather than in it: what has arrays in it."""
    return hasattr(argument, "__dict__") or hasattr(argument, "shape")


def _run(topic: str, name: str, steps: int, task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task at a worker, which tells how far it is, at most twice a second."""
    waiting, told_at = 0, time.monotonic()

    def tick(done: int) -> None:
        nonlocal waiting, told_at
        waiting += done
        now = time.monotonic()
        if now - told_at >= TICK_SECONDS:
            get_worker().log_event(topic, (name, waiting, steps))
            waiting, told_at = 0, now

    result = task(*arguments, tick)
    if waiting:
        get_worker().log_event(topic, (name, waiting, steps))
    return result
