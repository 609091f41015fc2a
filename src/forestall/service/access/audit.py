"""The chain of the audit log: each entry has the hash of the one before, so that nothing is changed or left out unseen.

What somebody cuts off at the end is not seen by the chain alone: keep the newest hash elsewhere (``forestall audit
export`` prints it) and verify from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

from forestall.model.errors import StoreError
from forestall.ports.audit_log import START, AuditEntry, Deed


def hash_of(sequence: int, deed: Deed, before: str) -> str:
    """SHA-256 (hexadecimal) of an entry: of the JSON of its place, its deed and the hash before, keys sorted."""
    text = json.dumps([sequence, before, asdict(deed)], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def chained(deed: Deed, last: AuditEntry | None) -> AuditEntry:
    """The entry that a deed becomes after the last one."""
    sequence, before = (last.sequence + 1, last.hash) if last else (1, START)
    return AuditEntry(sequence, deed, before, hash_of(sequence, deed, before))


def verified(entries: Iterable[AuditEntry], known: tuple[int, str] | None = None) -> AuditEntry | None:
    """The last entry of a log that is whole; None of an empty one.

    Parameters
    ----------
    entries
        All of it, from the first on.
    known
        Sequence and hash of an entry that was noted elsewhere: it must be there.

    Raises
    ------
    StoreError
        Something is wrong with it; the text says what, and where.
    """
    last, sequence, before = None, 0, START
    found = known is None
    for entry in entries:
        if entry.sequence != sequence + 1:
            raise StoreError(f"entry {sequence + 1} is missing: {entry.sequence} follows {sequence}")
        if entry.before != before:
            raise StoreError(f"entry {entry.sequence} does not follow the one before it")
        if entry.hash != hash_of(entry.sequence, entry.deed, entry.before):
            raise StoreError(f"entry {entry.sequence} was changed")
        last, sequence, before = entry, entry.sequence, entry.hash
        found = found or (sequence, before) == known
    if known is not None and not found:
        raise StoreError(f"entry {known[0]} is not the one that was noted, or is gone: it was cut off or written anew")
    return last
