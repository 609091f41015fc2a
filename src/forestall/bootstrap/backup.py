"""Backups of a state folder: made while the daemon runs or not, looked at, and taken as the beginning of a new one."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forestall import __version__
from forestall.adapters.duckdb.database import Database
from forestall.adapters.files.liveness import locked
from forestall.adapters.files.state_archive import read_archive, write_archive
from forestall.adapters.files.writing import sync_folder
from forestall.bootstrap.live import STORE
from forestall.model.errors import StoreError, WrongUse
from forestall.service.configuration import Configuration
from forestall.service.control import ask
from forestall.service.exports import COPIES, copied

LEFT_OUT = frozenset({"lock", "heartbeat.json", "forestall.sock", "exports", COPIES, "training", STORE, f"{STORE}.wal"})
"""First parts of names: what says that a process lives, what is made again, and the store, of which a copy is taken."""
OF_THE_MOMENT = frozenset({"originals", "core-originals", "crashes.json", "restorations.jsonl"})
"""What says how VMs are altered on this host now: kept in a backup, and of no use anywhere else or later."""
COPY_SECONDS = 3_600.0


def create_backup(configuration: Configuration, out: Path) -> dict[str, Any]:
    """Write all that is kept into a file; the daemon goes on meanwhile.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    WrongUse
        There is nothing, or such a file is there already.
    StoreError
        It cannot be read or written.
    """
    folder = configuration.state_folder
    if not folder.is_dir():
        raise WrongUse(f"{folder}: nothing is kept here")
    if out.exists():
        raise WrongUse(f"{out} is there already")
    if out.resolve().is_relative_to(folder.resolve()):
        raise WrongUse(f"{out} lies in the state folder itself")
    about = {
        "forestall": __version__,
        "host": socket.gethostname(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    answer = ask(folder, {"command": "copy-store"}, COPY_SECONDS)
    copy: Path | None
    if answer is not None:
        return _written(folder, Path(answer["path"]), out, about)
    with locked(folder):
        copy = None
        if (folder / STORE).exists():
            with closing(Database(folder / STORE)) as database:
                copy = copied(database.copy_to, folder)
        return _written(folder, copy, out, about)


def check_backup(path: Path) -> dict[str, Any]:
    """Look whether a backup is whole and unchanged; the manifest.

    Raises
    ------
    BadInput
        It is not.
    """
    return read_archive(path)


def restore_backup(path: Path, folder: Path, *, of_the_moment: bool = False) -> dict[str, Any]:
    """Make a new state folder from a backup; the manifest.

    Parameters
    ----------
    of_the_moment
        Also what says how VMs were set before they were changed: only right for the same host, at once.

    Raises
    ------
    WrongUse
        The folder is there, and not empty.
    BadInput
        The backup is damaged; nothing is left behind.
    StoreError
        It cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongUse(f"{folder} is not empty: a backup becomes a new state folder; move the old one away first")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        aside.mkdir(parents=True, mode=0o700)
        manifest = read_archive(path, aside, frozenset() if of_the_moment else OF_THE_MOMENT)
        with suppress(FileNotFoundError):
            folder.rmdir()
        os.replace(aside, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def _written(folder: Path, copy: Path | None, out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The store first: what moves from it into its archive meanwhile is then in both, not in neither."""
    files = {STORE: copy} if copy is not None else {}
    try:
        return write_archive(out, {**files, **_files(folder)}, about, frozenset(files))
    finally:
        if copy is not None:
            with suppress(OSError):
                copy.unlink()


def _files(folder: Path) -> dict[str, Path]:
    """Everything else that is kept, by its name in the folder."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            known = path.relative_to(folder)
            if known.parts[0] in LEFT_OUT or name.endswith(".tmp"):
                continue
            with suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    found[str(known)] = path
    return dict(sorted(found.items()))
