"""Work in another network namespace (setns(2)), without a process for it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from forestall.model.errors import HypervisorError

_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def in_network_namespace(path: Path | None, work: Callable[[], T]) -> T:
    """Result of ``work`` in the namespace at ``path``; in ours if that is None.

    A namespace belongs to a thread: the work runs in one of its own, which ends with it.
    """
    if path is None:
        return work()
    results: list[T] = []
    errors: list[BaseException] = []

    def there() -> None:
        try:
            _enter(path)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=there, name="network-namespace", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()  # and no cycle is left that would keep what the work has opened
    return results[0]


def _enter(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HypervisorError(f"cannot look into the network namespace {path}: {error.strerror}") from error
    try:
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise HypervisorError(f"cannot enter the network namespace {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


class Namespaces:
    """Network namespaces held open, so that they can be entered when the process that led to them is gone."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}

    def kept(self, path: Path | None) -> Path | None:
        """Where the namespace at ``path`` can be entered from now on; None, which is ours, stays None.

        Raises
        ------
        HypervisorError
            It is gone already.
        """
        if path is None:
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HypervisorError(f"cannot look into the network namespace {path}: {error.strerror}") from error
        held = self._descriptors.setdefault(os.fstat(descriptor).st_ino, descriptor)
        if held != descriptor:
            os.close(descriptor)
        return _path(held)

    def paths(self) -> tuple[Path, ...]:
        """Where those that are held can be entered."""
        return tuple(map(_path, self._descriptors.values()))

    def let_go(self, others: Collection[Path | None]) -> None:
        """Let go of all but those at these paths."""
        for number, descriptor in list(self._descriptors.items()):
            if _path(descriptor) not in others:
                os.close(self._descriptors.pop(number))

    def close(self) -> None:
        """Let go of all."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")
