"""The values of a trace's columns as arrays. What cannot be understood is refused, nothing repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from forestall.model.errors import BadInput
from forestall.model.samples import FloatArray, IntArray

_NULL_TEXTS = frozenset(("", "nan", "-nan", "null", "na", "n/a", "#n/a", "none"))


def vm_codes(path: Path, column: pa.ChunkedArray, codes: dict[str, int], name: str = "vm_id") -> IntArray:
    """Encode the names in the column ``name``; ``codes`` grows with those that are new."""
    try:
        if not pa.types.is_dictionary(column.type):
            column = column.cast(pa.string()).dictionary_encode()
        column = column.unify_dictionaries().combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        names = [str(n) if n is not None else "" for n in column.dictionary.to_pylist()]
        local = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise BadInput(f"holds {column.type}, expected text", path=path, column=name) from error
    known = np.array([codes.setdefault(n, len(codes)) if n else -1 for n in names] + [-1], dtype=np.int64)
    vm: IntArray = known[local]
    if (vm < 0).any():
        raise BadInput("is empty", path=path, row=int(np.argmax(vm < 0)) + 1, column=name)
    return vm


def numbers(path: Path, name: str, column: pa.ChunkedArray) -> FloatArray:
    """Convert a column to doubles, NaN where it is empty."""
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        values = column.cast(pa.float64()).to_numpy()
    elif pa.types.is_null(kind):
        values = np.full(len(column), np.nan)
    elif _is_text(kind):
        values = _parsed_numbers(path, name, _texts(column))
    else:
        raise BadInput(f"holds {kind}, expected numbers", path=path, column=name)
    return np.asarray(values, dtype=np.float64)


def _parsed_numbers(path: Path, name: str, texts: pd.Series[Any]) -> NDArray[Any]:
    values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    suspect = np.isnan(values)
    suspect[suspect] = ~texts[suspect].str.lower().isin(_NULL_TEXTS).to_numpy()
    if suspect.any():
        row = int(np.argmax(suspect))
        raise BadInput(f"{texts.iloc[row][:40]!r} is not a number", path=path, row=row + 1, column=name)
    return values


def timestamps(path: Path, column: pa.ChunkedArray, name: str = "timestamp", unit: str = "seconds") -> IntArray:
    """Convert timestamps to whole numbers, in the unit that they have; dates and times in ``unit``.

    ``name`` is the column's, for messages; ``unit`` is seconds or microseconds.
    """
    kind = column.type
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) + 1
        raise BadInput("is empty", path=path, row=row, column=name)
    if _is_text(kind):
        return _parsed_timestamps(path, _texts(column), name, unit)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        precision = "us" if unit == "microseconds" else "s"
        seconds = column.cast(pa.timestamp(precision, getattr(kind, "tz", None)), safe=False)
        return np.asarray(seconds.cast(pa.int64()).to_numpy(), dtype=np.int64)
    if pa.types.is_decimal(kind):
        return _whole(path, column.cast(pa.float64()).to_numpy(), name, unit)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _whole(path, column.to_numpy(), name, unit)
    if pa.types.is_null(kind):
        return np.zeros(0, dtype=np.int64)
    raise BadInput(f"holds {kind}, expected {unit}", path=path, column=name)


def _whole(path: Path, values: NDArray[Any], name: str, unit: str) -> IntArray:
    values = np.asarray(values)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
        bad = (whole != values) | (np.abs(values.astype(np.float64)) >= 2.0**63)
    if bad.any():
        row = int(np.argmax(bad))
        what = f"{values[row]} is not a whole number of {unit}"
        raise BadInput(what, path=path, row=row + 1, column=name)
    return whole


def _parsed_timestamps(path: Path, texts: pd.Series[Any], name: str, unit: str) -> IntArray:
    numbers = pd.to_numeric(texts, errors="coerce")
    dates = pd.to_datetime(texts.where(numbers.isna()), utc=True, format="ISO8601", errors="coerce")
    bad = (numbers.isna() & dates.isna()).to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        text = texts.iloc[row].strip()[:40]
        what = f"{text!r} is neither {unit} nor an ISO 8601 date" if text else "is empty"
        raise BadInput(what, path=path, row=row + 1, column=name)
    if numbers.notna().all():
        return _whole(path, numbers.to_numpy(), name, unit)
    seconds = dates.dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    seconds = seconds if unit == "microseconds" else seconds // 1_000_000
    return np.where(numbers.notna(), _whole(path, numbers.fillna(0).to_numpy(), name, unit), seconds)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _texts(column: pa.ChunkedArray) -> pd.Series[Any]:
    return pd.Series(column.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False), dtype=object).str.strip()


def whole_numbers(path: Path, column: pa.ChunkedArray, name: str) -> NDArray[np.uint64]:
    """Numbers from 0 to 2**64 - 1; ``name`` is the column's, for messages."""
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) + 1
        raise BadInput("is empty", path=path, row=row, column=name)
    if pa.types.is_floating(column.type):
        return _exact(path, column.to_numpy(), name)
    try:
        return np.asarray(column.cast(pa.uint64()).to_numpy(), dtype=np.uint64)
    except pa.ArrowException:
        pass
    try:
        texts = column.cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        raise BadInput(f"holds {column.type}, expected whole numbers", path=path, column=name) from error
    row = next((i for i, text in enumerate(texts) if not _is_whole(text)), 0)
    raise BadInput(
        f"{texts[row][:40]!r} is not a whole number from 0 to 2**64 - 1", path=path, row=row + 1, column=name
    )


def _exact(path: Path, values: NDArray[Any], name: str) -> NDArray[np.uint64]:
    """Whole numbers that came as doubles, which hold them exactly up to 2**53 only."""
    bad = ~((values >= 0) & (values < 1 << 53) & (values % 1 == 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise BadInput(f"{values[row]} is not a whole number below 2**53", path=path, row=row + 1, column=name)
    return values.astype(np.uint64)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 1 << 64
