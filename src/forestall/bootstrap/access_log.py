"""Where the log of accesses is, who writes to it, and what becomes of it when it is given away."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from forestall.model.errors import BadInput, StoreError
from forestall.service.configuration import Configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forestall.adapters.access_log.log import FileAccessLog
    from forestall.adapters.access_log.reading import Selection
    from forestall.staging.block_group import Past
    from forestall.staging.ledger import Group

FOLDER = "access"
PAST_ACCESSES = 50_000
"""Of so many accesses a model begins with those that it has the time for."""


def access_folder(configuration: Configuration) -> Path:
    """Folder of the log in the state folder; it need not be there."""
    return configuration.state_folder / FOLDER


def open_access_log(configuration: Configuration, name: str, most_bytes: int) -> FileAccessLog:
    """Take accesses down under a name, of which there is one process at a time.

    Raises
    ------
    StoreError
        Another process writes under this name, or the folder cannot be used.
    """
    from forestall.adapters.access_log.log import FileAccessLog
    from forestall.adapters.clock.system import SystemClock

    return FileAccessLog(access_folder(configuration), name, most_bytes=most_bytes, now=SystemClock().monotonic)


def past_of(configuration: Configuration) -> Callable[[Group], Past | None]:
    """What tells which blocks VMs of a trust group used before."""

    def past(group: Group) -> Past | None:
        import numpy as np

        from forestall.adapters.access_log.recent import recent
        from forestall.ports.access_log import BLOCK, UNIT_BYTES
        from forestall.staging.block_group import Past

        folder = access_folder(configuration)
        if not folder.exists():
            return None
        found = recent(folder, group.name, group.generation, PAST_ACCESSES, kind=BLOCK)
        read = ~found.write
        paths, path = np.unique(found.place[read].astype(str), return_inverse=True)
        vm_ids, vm = np.unique(found.vm_id[read].astype(str), return_inverse=True)
        offset_bytes = found.number[read] * UNIT_BYTES
        return Past(tuple(map(str, paths)), tuple(map(str, vm_ids)), path, vm, offset_bytes, found.size_bytes[read])

    return past


def first_touches_of(configuration: Configuration) -> Callable[[Group], Iterable[tuple[str, int]]]:
    """What tells which blocks of their memory VMs of a trust group took before, and in which order."""

    def touches(group: Group) -> Iterable[tuple[str, int]]:
        from forestall.adapters.access_log.recent import recent
        from forestall.ports.access_log import MEMORY, PAGE, UNIT_BYTES
        from forestall.service import shadowing

        folder = access_folder(configuration)
        if not folder.exists():
            return ()
        found = recent(folder, group.name, group.generation, PAST_ACCESSES, kind=PAGE, written_by=shadowing.MEMORY)
        # Each is one block; those of another size were numbered otherwise.
        taken = (found.place == MEMORY) & (found.size_bytes == (found.size_bytes[-1] if len(found) else 0))
        block = found.number[taken] * UNIT_BYTES // found.size_bytes[taken]
        return zip(map(str, found.vm_id[taken]), block.tolist(), strict=True)

    return touches


def export_accesses(configuration: Configuration, trace: Path, selection: Selection, *, overwrite: bool = False) -> str:
    """Make an access trace of the log, with the keys of this host; return what came of it, for a terminal.

    Raises
    ------
    BadInput
        The trace exists, and is not to be overwritten.
    StoreError
        There is nothing to be exported, the log cannot be read, or the trace cannot be written.
    """
    from forestall.adapters.access_log.export import export
    from forestall.adapters.files.group_keys import FileGroupKeys

    if trace.exists() and not overwrite:
        raise BadInput("exists already; --force replaces it", path=trace)
    folder = access_folder(configuration)
    accesses = export(folder, trace, selection, FileGroupKeys(configuration.state_folder))
    if not accesses:
        raise StoreError(f"{folder}: no accesses were logged that fit; there is no trace of nothing")
    replay = f"forestall replay access {shlex.quote(str(trace))} --out DIR"
    return f"{trace}: accesses: {accesses}; replay them with: {replay}"
