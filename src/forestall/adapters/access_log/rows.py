"""What is in the part files of a log of accesses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forestall.adapters.files.part_files import FULL, whole_batches
from forestall.model.errors import StoreError
from forestall.ports.access_log import Accesses, Source

NAMES = ("vm_id", "program_id", "group", "generation", "kind", "place")
"""Columns of names: the attributes of a :class:`~forestall.ports.access_log.Source`."""
_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("at", pa.float64()),
        *((name, _NAME) for name in NAMES),
        ("number", pa.uint64()),
        ("size_bytes", pa.int64()),
        ("write", pa.bool_()),
    ]
)
PARQUET = {
    "use_dictionary": list(NAMES),
    "column_encoding": {
        "at": "BYTE_STREAM_SPLIT",
        "number": "DELTA_BINARY_PACKED",
        "size_bytes": "DELTA_BINARY_PACKED",
    },
}
"""How a full part is written: a third smaller than by default, and in half the time."""


class Dictionaries:
    """Names of one stream; they only grow, so that a batch carries only those that are new in it."""

    def __init__(self) -> None:
        self._codes: dict[str, dict[str, int]] = {name: {} for name in NAMES}

    def rows_of(self, gathered: Sequence[tuple[Source, Accesses]]) -> pa.RecordBatch:
        """Accesses of some sources, one after the other, as a batch of the stream."""
        lengths = [len(accesses) for _, accesses in gathered]
        columns = {
            name: self._column(name, [getattr(source, name) for source, _ in gathered], lengths) for name in NAMES
        }
        for name in ("at", "number", "size_bytes", "write"):
            field = SCHEMA.field(name)
            values = np.concatenate([getattr(accesses, name) for _, accesses in gathered])
            columns[name] = pa.array(values.astype(field.type.to_pandas_dtype()), field.type)
        return pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    def _column(self, name: str, values: Sequence[str], lengths: Sequence[int]) -> pa.DictionaryArray:
        codes = self._codes[name]
        # A path of the host need not be text.
        texts = (value.encode("utf-8", "backslashreplace").decode() for value in values)
        code = np.array([codes.setdefault(text, len(codes)) for text in texts], np.int32)
        return pa.DictionaryArray.from_arrays(np.repeat(code, lengths), pa.array(list(codes), pa.string()))


def read_part(path: Path, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Whole rows of a part, in the order in which they were written; it may have become full since it was listed.

    Parameters
    ----------
    path
        The part.
    columns
        Which are read.

    Raises
    ------
    FileNotFoundError
        It was removed.
    StoreError
        It is damaged, or no part of a log of accesses.
    """
    try:
        table = _read_full(path, columns) if path.suffix == FULL else _read_growing(path).select(columns)
    except FileNotFoundError:
        if path.suffix == FULL:
            raise
        return read_part(path.with_suffix(FULL), columns)
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StoreError(f"{path}: is damaged, or cannot be read: {' '.join(why.split())}") from error
    if not table.schema.equals(pa.schema([SCHEMA.field(name) for name in columns])):
        raise StoreError(f"{path}: is no part of a log of accesses")
    return table


def _read_full(path: Path, columns: Sequence[str]) -> pa.Table:
    with pa.OSFile(str(path), "rb") as file:
        return pyarrow.parquet.read_table(file, columns=list(columns))


def _read_growing(path: Path) -> pa.Table:
    with path.open("rb") as file:
        start = file.read(4)
    # A stream begins with this mark; zeros are what a host leaves that lost its power.
    if len(start) == 4 and start not in (b"\xff\xff\xff\xff", bytes(4)):
        raise pa.ArrowInvalid("it is no Arrow stream")
    batches = list(whole_batches(path))
    return pa.Table.from_batches(batches) if batches else SCHEMA.empty_table()
