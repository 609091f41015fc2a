"""The files of a trace as Arrow tables, whatever they are: one file or a folder, Parquet or CSV.

Errors of the file system and of Arrow end here: what leaves this module is a table or a
:class:`~forestall.model.errors.BadInput` that names the file and, where it is known, the row.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from forestall.model.errors import BadInput

SUFFIXES = (".parquet", ".csv", ".csv.gz")
VM_ID_TYPE = pa.dictionary(pa.int32(), pa.string())
_LONGEST_HEADER = 100_000
_NULL_TEXTS = ["", "NaN", "nan", "-nan", "NULL", "null", "NA", "N/A", "n/a", "#N/A", "None"]


@dataclass(frozen=True)
class Piece:
    """A table with the path of the file that it came from, and all column names that the file has."""

    path: Path
    table: pa.Table
    header: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, table: pa.Table) -> Piece:
        """Make a piece of a table that has been read whole."""
        return cls(path, table, tuple(table.column_names))


def files_of(path: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """List the files that ``path`` means: itself, or what a folder holds with one of these suffixes, sorted.

    Raises
    ------
    BadInput
        The path does not exist, may not be read, is neither file nor folder, or holds no such file.
    """
    wanted = ", ".join(suffixes)
    try:
        if path.is_file():
            if not path.name.lower().endswith(tuple(suffixes)):
                raise BadInput(f"is not one of {wanted} by its name", path=path)
            return [path]
        if not path.is_dir():
            path.stat()
            raise BadInput("is neither a regular file nor a folder", path=path)
        found = sorted(f for f in path.iterdir() if f.name.lower().endswith(tuple(suffixes)) and f.is_file())
    except OSError as error:
        raise BadInput(_reason(error), path=path) from error
    if not found:
        raise BadInput(f"no trace in this folder (looked for {wanted})", path=path)
    return found


def read_pieces(path: Path, columns: Collection[str], types: Mapping[str, pa.DataType]) -> Iterator[Piece]:
    """Read the files of a trace one after another.

    Parameters
    ----------
    path
        A file, or a folder of files that are one trace.
    columns
        The columns to keep; the names of all of them stay in :attr:`Piece.header`.
    types
        The types that the columns of a CSV file should have.
    """
    for file in files_of(path):
        if file.name.lower().endswith(".parquet"):
            yield read_parquet(file, columns)
        else:
            table = read_csv(file, types)
            header = tuple(table.column_names)
            yield Piece(file, table.select([i for i, c in enumerate(header) if c in columns]), header)


def read_csv(
    path: Path,
    types: Mapping[str, pa.DataType],
    *,
    names: Sequence[str] | None = None,
    delimiter: str = ",",
) -> pa.Table:
    """Read a CSV file, plain or gzipped.

    A file whose values do not fit ``types`` comes back with every column as text, so that whoever converts
    the columns can name the row and the text that is wrong.

    Parameters
    ----------
    path, types, delimiter
        The file, the types that its columns should have, and what stands between them.
    names
        Names of the columns of a file without a header.

    Raises
    ------
    BadInput
        It cannot be read, is empty, is not text, or a row has too few or too many columns.
    """
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
    convert = pyarrow.csv.ConvertOptions(column_types=dict(types), null_values=_NULL_TEXTS)
    given = list(names) if names else None
    try:
        table = pyarrow.csv.read_csv(
            path, pyarrow.csv.ReadOptions(column_names=given), parse_options=parse, convert_options=convert
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if "Empty CSV" in str(error):
            raise BadInput("is empty", path=path) from error
        table = _read_as_text(path, given, delimiter)
    _refuse_other_delimiter(path, table.column_names, delimiter)
    return table


def _read_as_text(path: Path, names: list[str] | None, delimiter: str) -> pa.Table:
    """Read every column as text, and name the first row that has too few or too many."""
    read = pyarrow.csv.ReadOptions(column_names=names, use_threads=False)
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
    try:
        header = names or _header(path, delimiter)
        types = dict.fromkeys(header, pa.string())
        convert = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
        _refuse_other_delimiter(path, header, delimiter)
        return pyarrow.csv.read_csv(path, read, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        text = _reason(error)
        ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", text)
        if ragged is None:
            raise BadInput(f"cannot be read as CSV: {text}", path=path) from error
        row, expected, got = (int(g) for g in ragged.groups())
        what = f"has {got} values where the file has {expected} columns"
        raise BadInput(what, path=path, row=row - (names is None)) from error


def _header(path: Path, delimiter: str) -> list[str]:
    """Read the names of the columns: the first line that is not empty."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        while line := file.readline(_LONGEST_HEADER):
            if line.strip():
                return next(csv.reader([line], delimiter=delimiter))
    return []


def _refuse_other_delimiter(path: Path, header: Sequence[str], delimiter: str) -> None:
    """Say so when the whole header is one name with another delimiter in it."""
    other = next((d for d in ";\t|," if d != delimiter and len(header) == 1 and d in header[0]), None)
    if other is not None:
        what = f"columns are separated by {other!r}, expected {delimiter!r}"
        raise BadInput(what, path=path)


def read_parquet(path: Path, columns: Collection[str] | None = None) -> Piece:
    """Read these columns of a Parquet file, or all.

    Raises
    ------
    BadInput
        It cannot be read, or is not Parquet.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = tuple(file.schema_arrow.names)
            table = file.read(columns=[c for c in header if columns is None or c in columns])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = "is empty" if _size(path) == 0 else f"cannot be read as Parquet: {_reason(error)}"
        raise BadInput(what, path=path) from error
    return Piece(path, table, header)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _reason(error: BaseException) -> str:
    """Say in one line what an error of the operating system or of Arrow means."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
        return "it is not UTF-8 text"
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split("\n")[0].split())[:200] or type(error).__name__
