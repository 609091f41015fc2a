"""The control socket: one JSON request a line, one JSON answer a line; only the owner of the process may connect.

Requests: ``{"command": "status" | "vms" | "explain" | "restore" | "trust-group" | "guests" | ..., ...}``. Answers:
``{"ok": true, "result": ...}`` or ``{"ok": false, "error": "one line", "wrong_use": ...}``; what is not finite is null.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from forestall.model.errors import ForestallError, StoreError, WrongUse, in_one_line

SOCKET = "forestall.sock"
LONGEST_REQUEST_BYTES = 4 << 20
WAITING, MOST_AT_ONCE = 128, 16
"""So many may wait to be heard; who comes after them is told at once that nobody answers."""
_PATIENCE_SECONDS = 10.0
Answer = Callable[[Mapping[str, Any]], Any]
"""Answers a request with plain values; a :class:`ForestallError` becomes the answer's error."""


@contextmanager
def _place(folder: Path) -> Iterator[str]:
    """Name of the socket that is short enough, however long the folder's is (at most 107 bytes, unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


@contextmanager
def serving(folder: Path, answer: Answer, beside: Collection[str] = ()) -> Iterator[None]:
    """Answer requests in threads of their own while the block runs, one after the other.

    Parameters
    ----------
    folder
        Where the socket is.
    answer
        Answers one.
    beside
        Commands that take long and may be answered beside others.

    Raises
    ------
    StoreError
        The socket cannot be made.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            (folder / SOCKET).unlink()
        os.fchmod(server.fileno(), 0o600)
        with _place(folder) as name:
            server.bind(name)
        server.listen(WAITING)
    except OSError as error:
        server.close()
        raise StoreError(f"{folder / SOCKET}: cannot be made: {error.strerror}") from error
    desk = _Desk(answer, beside)
    thread = threading.Thread(target=_serve, args=(server, desk), name="control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        desk.close(_PATIENCE_SECONDS)
        thread.join(_PATIENCE_SECONDS)
        with suppress(OSError):
            (folder / SOCKET).unlink()


def ask(folder: Path, request: Mapping[str, Any], patience_seconds: float = 60.0) -> Any:
    """Ask the daemon of a state folder; None if none listens.

    Raises
    ------
    WrongUse
        It refused, for what was asked cannot be meant.
    StoreError
        It could not do it, or did not answer in time.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, _place(folder) as name:
            client.settimeout(patience_seconds)
            client.connect(name)
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as file:
                line = file.readline()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise StoreError(f"{folder / SOCKET}: the daemon does not answer: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        raise StoreError(f"{folder / SOCKET}: the daemon ended before it answered")
    found = json.loads(line)
    if not found["ok"]:
        raise (WrongUse if found.get("wrong_use") else StoreError)(found["error"])
    return found["result"]


class _Desk:
    """Answers one request after the other, and a few that take long beside them, until it is closed."""

    def __init__(self, answer: Answer, beside: Collection[str]) -> None:
        self._answer, self._beside = answer, beside
        self._turn, self._room = threading.Lock(), threading.Semaphore(MOST_AT_ONCE // 2)
        self._closed = False
        self.threads: set[threading.Thread] = set()

    def __call__(self, request: Mapping[str, Any]) -> Any:
        if request.get("command") not in self._beside:
            with self._turn:
                return self._answered(request)
        if not self._room.acquire(blocking=False):
            raise StoreError("busy: too much is being looked for already; try again soon")
        try:
            return self._answered(request)
        finally:
            self._room.release()

    def _answered(self, request: Mapping[str, Any]) -> Any:
        if self._closed:
            raise StoreError("the daemon is about to end")
        return self._answer(request)

    def close(self, patience_seconds: float) -> None:
        """Begin to answer nothing more, and wait for what is being answered."""
        self._closed = True
        until = time.monotonic() + patience_seconds
        for thread in tuple(self.threads):
            thread.join(max(until - time.monotonic(), 0.0))


def _serve(server: socket.socket, desk: _Desk) -> None:
    free = threading.Semaphore(MOST_AT_ONCE)

    def hold(connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                connection.settimeout(_PATIENCE_SECONDS)
                _converse(connection, desk)
        finally:
            free.release()
            desk.threads.discard(threading.current_thread())

    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return  # closed
        free.acquire()
        thread = threading.Thread(target=hold, args=(connection,), name="control answer", daemon=True)
        desk.threads.add(thread)
        thread.start()


def _converse(connection: socket.socket, answer: Answer) -> None:
    with connection.makefile("rb") as file:
        while line := file.readline(LONGEST_REQUEST_BYTES):
            connection.sendall(json.dumps(_answered(line, answer), allow_nan=False).encode() + b"\n")


def _answered(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            return {"ok": False, "error": "a request is a JSON object"}
        return {"ok": True, "result": answer(request)}
    except (ValueError, RecursionError):
        return {"ok": False, "error": "a request is a line of JSON"}
    except ForestallError as error:
        return {"ok": False, "error": str(error), "wrong_use": isinstance(error, WrongUse)}
    except Exception as error:  # a defect must not leave the daemon deaf
        return {"ok": False, "error": f"a defect: {in_one_line(error)}", "wrong_use": False}
