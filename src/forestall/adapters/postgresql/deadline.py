"""A limit on this side of a connection: a server that hangs keeps none of its own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg


@contextmanager
def within(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Cut a connection off if the block takes longer; it is closed then.

    Raises
    ------
    TimeoutError
        The block has failed because of that.
    """
    passed = threading.Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:

        def cut() -> None:
            passed.set()
            with suppress(OSError):  # it was lost already
                wire.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(max(seconds, 0.0), cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error as error:
            if passed.is_set():
                raise TimeoutError(f"has not answered within {seconds:.0f} s") from error
            raise
        finally:
            timer.cancel()
            timer.join()
            if passed.is_set():
                connection.close()
