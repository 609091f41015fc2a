"""An access trace of what was logged, without a name of this host in it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from forestall.adapters.access_log.reading import Logged, Selection, answered
from forestall.model.errors import StoreError

PLACE_SHIFT = 44
"""Numbers of the second place of a VM begin at 1 << 44: a place may be of 64 PiB."""
_ROWS = 100_000
_SOURCE = "trust_group, vm_id, program_id, kind, place"
_TRACE = pa.schema(
    [
        ("sequence", pa.uint64()),
        ("vm_id", pa.string()),
        ("program_id", pa.string()),
        ("resource_type", pa.string()),
        ("resource_id", pa.uint64()),
        ("op", pa.string()),
        ("size_bytes", pa.int64()),
        ("timestamp_us", pa.int64()),
    ]
)
_SOURCES = f"SELECT {_SOURCE} FROM accesses GROUP BY ALL ORDER BY min((instant, part, position))"
_ACCESSES = f"""
    SELECT (row_number() OVER (ORDER BY instant, part, position) - 1)::UBIGINT AS sequence, vm_name AS vm_id,
           program_name AS program_id, kind AS resource_type, xor(number, first_number::UBIGINT) AS resource_id,
           if(is_write, 'w', 'r') AS op, size_bytes, round(instant * 1e6)::BIGINT AS timestamp_us
    FROM accesses JOIN sources USING ({_SOURCE}) ORDER BY sequence
"""


def export(folder: Path, trace: Path, selection: Selection, key_of: Callable[[str], bytes]) -> int:
    """Write an access trace that `forestall replay access` reads, whole or not at all; return how many accesses it has.

    VMs and programs are called by a hash with the key of their trust group: the same one always is called the same, and
    who has not got the key learns nothing from it. Of several places of a VM each has numbers of its own, in the order
    of appearance.

    Parameters
    ----------
    folder
        Where the log is.
    trace
        Parquet file; replaced if it is there. Without an access none is written.
    selection
        Which accesses are written.
    key_of
        Key of a trust group, by its name.

    Raises
    ------
    StoreError
        The log cannot be read, or the trace cannot be written.
    """

    def question(logged: Logged) -> int:
        sources = logged.fetch(_SOURCES)
        if not sources:
            return 0
        logged.register("sources", _named(sources, key_of))
        return _write(logged, trace)

    return answered(folder, selection, question)


def _named(sources: list[dict[str, Any]], key_of: Callable[[str], bytes]) -> pa.Table:
    """Sources in order of appearance, and what they are called in the trace."""
    places: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for source in sources:
        key = key_of(source["trust_group"])
        source["vm_name"] = _hashed(source["vm_id"], key, b"vm")
        source["program_name"] = _hashed(source["program_id"], key, b"program")
        known = places.setdefault((source["trust_group"], source["vm_id"]), {})
        place = known.setdefault((source["kind"], source["place"]), len(known))
        source["first_number"] = place << PLACE_SHIFT
    return pa.Table.from_pylist(sources)


def _hashed(name: str, key: bytes, what: bytes) -> str:
    """16 hexadecimal digits; nothing of nothing."""
    return hashlib.blake2b(name.encode(), digest_size=8, key=key, person=what).hexdigest() if name else ""


def _write(logged: Logged, trace: Path) -> int:
    try:
        handle, temporary = tempfile.mkstemp(dir=trace.parent, prefix=f".{trace.name[:80]}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                rows = 0
                with pyarrow.parquet.ParquetWriter(file, _TRACE, compression="zstd") as writer:
                    for batch in logged.stream(_ACCESSES, _ROWS):
                        writer.write_batch(batch.cast(_TRACE))
                        rows += batch.num_rows
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, trace)
            return rows
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{trace}: cannot be written: {error.strerror or error}") from error
