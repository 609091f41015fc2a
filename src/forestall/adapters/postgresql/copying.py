"""Rows in and out by binary COPY, made and read as arrays: value by value would take several times the CPU.

A row of fixed width is one of a numpy structured array: the number of its fields, then each as its length and its
bytes, in the order of the network. So that the width is fixed, a value that is missing is NaN on the way, and NULL in
the tables. See COPY in the manual of PostgreSQL, "Binary Format".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from forestall.adapters.postgresql.database import Cursor

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_KEY = {"instant": ">i8", "vm": ">i4"}


def copy_in(cursor: Cursor, table: str, rows: pa.Table, columns: Sequence[str]) -> None:
    """Write the keys and some columns of rows into a table."""
    names = [*_KEY, *columns]
    fields = np.zeros(rows.num_rows, _layout(columns))
    fields["fields"] = len(names)
    for name in names:
        fields[f"{name} length"] = fields.dtype[name].itemsize
        fields[name] = rows[name].to_numpy()
    with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT binary)") as copy:
        copy.write(_HEADER + fields.tobytes() + _TRAILER)


def copy_out(cursor: Cursor, query: str, columns: Sequence[str]) -> pa.Table:
    """Rows of a query that gives ``instant``, ``vm`` and some columns (DOUBLE PRECISION), none of them NULL."""
    with cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as copy:
        content = b"".join(copy)
    layout = _layout(columns)
    count = (len(content) - len(_HEADER) - len(_TRAILER)) // layout.itemsize
    fields = np.frombuffer(content, layout, count, len(_HEADER))
    return pa.table({name: fields[name].astype(fields.dtype[name].newbyteorder("=")) for name in (*_KEY, *columns)})


def _layout(columns: Sequence[str]) -> np.dtype[np.void]:
    kinds = _KEY | dict.fromkeys(columns, ">f8")
    parts = [("fields", ">i2")]
    for name, kind in kinds.items():
        parts += [(f"{name} length", ">i4"), (name, kind)]
    return np.dtype(parts)
