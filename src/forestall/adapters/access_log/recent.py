"""The newest accesses of a trust group: what a model is warmed with at the start."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from forestall.adapters.access_log.rows import SCHEMA, read_part
from forestall.adapters.files.part_files import FULL, paths_of, told
from forestall.model.samples import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Recent:
    """Accesses, oldest first; arrays (access,), those of names of Python strings.

    Attributes
    ----------
    at
        Instants, seconds UTC.
    vm_id, place, number, size_bytes, write
        As in :class:`~forestall.ports.access_log.Source` and :class:`~forestall.ports.access_log.Accesses`.
    """

    at: FloatArray
    vm_id: NDArray[np.object_]
    place: NDArray[np.object_]
    number: IntArray
    size_bytes: IntArray
    write: BoolArray

    def __len__(self) -> int:
        return len(self.at)


def recent(
    folder: Path, group: str, generation: str, most: int, *, kind: str | None = None, written_by: str | None = None
) -> Recent:
    """The newest accesses of a generation of a trust group; of files only those that are needed are read.

    Parameters
    ----------
    folder
        Where the log is.
    group, generation
        The trust group.
    most
        At most so many.
    kind
        Only of this one of :data:`~forestall.ports.access_log.KINDS`; None: of all.
    written_by
        Only what was written under this name; None: under any.

    Raises
    ------
    StoreError
        The log cannot be read.
    """
    wanted = {"group": group, "generation": generation} | ({} if kind is None else {"kind": kind})
    with told(folder):
        paths = paths_of(folder, written_by)
    names = sorted({path.stem.rpartition("-")[0] for path in paths})
    tables = [_newest([path for path in paths if path.stem.rpartition("-")[0] == name], wanted, most) for name in names]
    table = pa.concat_tables([SCHEMA.empty_table(), *tables]).unify_dictionaries()
    at = table["at"].to_numpy()
    order = np.argsort(at, kind="stable")[-most:]
    return Recent(
        at=at[order],
        vm_id=_strings(table["vm_id"], order),
        place=_strings(table["place"], order),
        number=table["number"].to_numpy()[order].view(np.int64),
        size_bytes=table["size_bytes"].to_numpy()[order],
        write=table["write"].to_numpy()[order],
    )


def _newest(paths: list[Path], wanted: dict[str, str], most: int) -> pa.Table:
    """What is wanted of the last parts, as far back as there is enough of it."""
    found: list[pa.Table] = []
    rows = 0
    for path in reversed(paths):
        if rows >= most:
            break
        try:
            # Most parts hold nothing of a group that is new or seldom at work.
            if path.suffix != FULL or len(_chosen(read_part(path, [*wanted]), wanted)):
                found.append(_chosen(read_part(path), wanted))
                rows += len(found[-1])
        except FileNotFoundError:  # it was the oldest, and there is no room for it any more
            break
    return pa.concat_tables([SCHEMA.empty_table(), *reversed(found)])


def _chosen(table: pa.Table, wanted: dict[str, str]) -> pa.Table:
    those = (pyarrow.compute.equal(table[column], value) for column, value in wanted.items())
    return table.filter(functools.reduce(pyarrow.compute.and_, those))


def _strings(column: pa.ChunkedArray, order: Any) -> NDArray[np.object_]:
    array = column.combine_chunks()
    found: NDArray[np.object_] = array.dictionary.to_numpy(zero_copy_only=False)[array.indices.to_numpy()[order]]
    return found
