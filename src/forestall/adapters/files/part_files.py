"""Part files of what is written without end: an Arrow stream while it grows, Parquet once it is full.

A stream may end in the middle of a batch, when its writer was killed; what stands before that is read. Parts are
called ``NAME-NUMBER``, and nobody but their owner can read them.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from forestall.model.errors import FolderInUse, StoreError

GROWING, FULL = ".arrows", ".parquet"
_PART = re.compile(rf"([a-z]+)-(\d+)({re.escape(GROWING)}|{re.escape(FULL)})")


class GrowingPart:
    """A stream of batches; each is with the system when :meth:`write` returns.

    After a write that failed nothing may follow: what is behind a torn batch cannot be read.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows, self.size_bytes = path, 0, 0
        self._sink = _opened(path)
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._writer = pa.ipc.new_stream(self._sink, schema, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch."""
        self._writer.write_batch(batch)
        self._sink.flush()
        self.rows += batch.num_rows
        self.size_bytes = self._sink.tell()

    def sync(self) -> None:
        """Have all of it on the disk."""
        os.fsync(self._sink.fileno())

    def close(self) -> None:
        """End the stream."""
        try:
            self._writer.close()
        finally:
            self._sink.close()

    def abandon(self) -> None:
        """Leave it as it is, after a write that failed."""
        with suppress(OSError):
            self._sink.close()


def paths_of(folder: Path, name: str | None = None) -> list[Path]:
    """Parts of one name or of all, by name and number; of a part that is there in both forms, the full one."""
    found: dict[tuple[str, int], Path] = {}
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        return []
    for match in map(_PART.fullmatch, entries):
        if match and name in (None, match[1]):
            key = match[1], int(match[2])
            found[key] = folder / match[0] if match[3] == FULL else found.get(key, folder / match[0])
    return [found[key] for key in sorted(found)]


def part_number(path: Path) -> int:
    """Which one of its name a part is: 1, 2, ... in the order of their making."""
    return int(path.stem.rpartition("-")[2])


def next_path(folder: Path, name: str) -> Path:
    """Where the next part of a name grows."""
    last = max(map(part_number, paths_of(folder, name)), default=0)
    return folder / f"{name}-{last + 1:06d}{GROWING}"


def whole_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of a stream, up to the one that was cut off."""
    with pa.OSFile(str(path), "rb") as file:
        try:
            reader = pa.ipc.open_stream(file)
            while True:
                yield reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowInvalid, OSError):  # the end that a killed writer left
            return


def make_full(growing: Path, table: pa.Table | None, **options: Any) -> None:
    """Turn a stream that has ended into Parquet; whenever that is cut off, one of the two is whole.

    Parameters
    ----------
    growing
        The stream; it is removed.
    table
        What is in it; None if nothing is.
    options
        Of :func:`pyarrow.parquet.write_table`.
    """
    if table is not None:
        temporary = growing.with_suffix(".tmp")
        try:
            with _opened(temporary) as file:
                pyarrow.parquet.write_table(table, file, compression="zstd", **options)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, growing.with_suffix(FULL))
        finally:
            temporary.unlink(missing_ok=True)
    growing.unlink()


def lock_file(path: Path, refusal: str) -> IO[bytes]:
    """Take a lock; it is let go when the file is closed, or its process ends.

    Raises
    ------
    FolderInUse
        Another process has it; ``refusal`` says so.
    """
    file = _opened(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise FolderInUse(f"{path.parent}: {refusal}") from error
    return file


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Raise what the system refuses as :class:`StoreError`."""
    try:
        yield
    except OSError as error:  # Arrow's own errors about files are among them
        raise StoreError(f"{folder}: cannot be read or written: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise StoreError(f"{folder}: cannot be read or written: {' '.join(str(error).split())}") from error


def _opened(path: Path) -> IO[bytes]:
    """An empty file that is its owner's alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
