"""A real PostgreSQL server of a test's own: in a temporary folder, on a Unix socket, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from forestall.adapters.postgresql.store import PostgresqlStore

WAIT_SECONDS = 60.0
FOR_TESTS = {
    "fsync": "off",  # processes are killed here, machines are not
    "shared_buffers": "32MB",
    "max_connections": "40",
    "deadlock_timeout": "100ms",
    "autovacuum": "off",
}


class Server:
    """A server that can be ended, killed and started again; :func:`running_server` makes it.

    Attributes
    ----------
    folder
        Where its socket is, and its data.
    """

    def __init__(self, programs: Path, folder: Path, user: pwd.struct_passwd, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self._programs, self._user = programs, user
        self._settings = {**settings, "listen_addresses": "", "unix_socket_directories": str(folder)}
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)

    def url(self, database: str) -> str:
        """URL of one of its databases."""
        return f"postgresql:///{database}?host={self.folder}&user={self._user.pw_name}"

    def new_database(self) -> str:
        """URL of a database that is empty."""
        name = f"test_{next(self._names)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def make(self) -> None:
        """Make its data."""
        arguments = [
            "-D",
            str(self.folder / "data"),
            "-U",
            self._user.pw_name,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run([self._programs / "initdb", *arguments], check=True, capture_output=True, **self._as_user())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        with (self.folder / "log").open("ab") as log:
            command = [self._programs / "postgres", "-D", self.folder / "data", *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user())
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text("utf-8")[-2000:]) from None
                time.sleep(0.02)

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """End it; SIGQUIT: at once, without writing anything more, so that the next start recovers from the log."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _as_user(self) -> dict[str, object]:
        if os.geteuid():
            return {"cwd": self.folder}
        return {"cwd": self.folder, "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


@contextmanager
def opened(url: str, **given: Any) -> Iterator[PostgresqlStore]:
    """A store that is closed at the end of the block."""
    store = PostgresqlStore(url, **given)
    try:
        yield store
    finally:
        store.close()


def asked(url: str, query: str) -> list[Any]:
    """First column of what a query gives."""
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = forestall")
        return [row[0] for row in connection.execute(query).fetchall()]


def told(url: str, statement: str) -> None:
    """Carry out a statement."""
    with psycopg.connect(url) as connection:
        connection.execute(statement)


def programs() -> Path | None:
    """Folder of the newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    there = shutil.which("postgres")
    candidates = [*found, *([Path(there).resolve()] if there else [])]
    return next((p.parent for p in reversed(candidates) if (p.parent / "initdb").exists()), None)


def _user() -> pwd.struct_passwd | None:
    """Who runs it: postgres refuses root."""
    if os.geteuid():
        return pwd.getpwuid(os.geteuid())
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


@contextmanager
def running_server(settings: Mapping[str, str] = FOR_TESTS) -> Iterator[Server]:
    """A server, which ends with the block whatever happens in it; a test is skipped where there is none."""
    where, user = programs(), _user()
    if where is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if user is None:
        pytest.skip("PostgreSQL refuses root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="forestall-postgresql-", dir="/tmp"))  # short: a socket's path is
    server = Server(where, folder, user, settings)
    try:
        if not os.geteuid():
            os.chown(folder, user.pw_uid, user.pw_gid)
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
