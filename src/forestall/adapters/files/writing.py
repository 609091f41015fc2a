"""Writing small JSON files whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from forestall.model.errors import StoreError

T = TypeVar("T")


def write_json(path: Path, value: Any, *, durable: bool = True, private: bool = False) -> None:
    """Write a file aside and rename it, so that a reader sees the old one or the new one.

    Parameters
    ----------
    path
        Its folder is made if it does not exist.
    value
        Plain JSON values.
    durable
        Whether file and folder are on the disk on return.
    private
        Whether only its owner may read it.

    Raises
    ------
    StoreError
        It could not be written; the old file is untouched, and nothing else is left behind.
    """
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: cannot be written: {error}") from error
    write_file(path, text.encode(), durable=durable, private=private)


def write_file(path: Path, data: bytes, *, durable: bool = True, private: bool = False) -> None:
    """The same for any bytes."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o600 if private else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(aside, flags, mode), "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(aside, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """See to it that names of files in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_versioned(path: Path, version: int, key: str, kind: type[T]) -> T | None:
    """Read what stands under a key of a file ``{"version": ..., KEY: ...}``, as a type; None if there is no file.

    Raises
    ------
    StoreError
        It cannot be read, is damaged, or of another version.
    """
    found = read_json(path)
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("version") != version:
        raise StoreError(f"{path}: is damaged, or of another version of Forestall")
    try:
        return msgspec.convert(found[key], kind)
    except (KeyError, msgspec.ValidationError) as error:
        raise StoreError(f"{path}: is damaged: {error}") from error


def read_json(path: Path) -> Any:
    """Read a file; None if there is none.

    Raises
    ------
    StoreError
        It cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: is damaged: {error}") from error
