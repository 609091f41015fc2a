"""Tokens: made once, shown once, known by their hash; each has a role, and may be for some trust groups only.

A token is ``forestall_HANDLE_SECRET``. The secret has 256 bits of chance, so that a plain hash of it gives nothing away
(a slow one is for what people make up); it is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from forestall.model.errors import WrongUse
from forestall.ports.token_book import Proof, Role, TokenBook, TokenRecord

_TOKEN = re.compile(r"forestall_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
LONGEST_DAYS = 3_650
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name, role
        Of the token.
    groups
        Trust groups that they may see; None: everything.
    handle, proof
        Which token it is, and which of its secrets was shown, as it is kept.
    """

    name: str
    role: Role
    groups: frozenset[str] | None = None
    handle: str = field(default="", compare=False)
    proof: str = field(default="", compare=False)

    def may(self, needed: Role) -> bool:
        """Whether they may do what needs this role."""
        return self.role.covers(needed)

    def sees(self, group: str) -> bool:
        """Whether they may know of VMs of a trust group; the empty name is that of VMs in none."""
        return self.groups is None or (group != "" and group in self.groups)


class Tokens:
    """All tokens.

    Parameters
    ----------
    book
        Where they are kept.
    """

    def __init__(self, book: TokenBook) -> None:
        self._book = book

    def issue(self, name: str, role: Role, groups: Collection[str] | None, days: float, now: float) -> str:
        """Make a token, and return it: it is not known afterwards.

        Raises
        ------
        WrongUse
            The name is taken, or is none; or it would end at once, or never.
        """
        if not _NAME.fullmatch(name):
            raise WrongUse(f"{name!r} is no name of a token: letters, digits, '.', '_', '@' and '-', at most 64")
        if groups is not None and not groups:
            raise WrongUse("a token for no trust group would see nothing")
        until = now + _seconds(days)
        with self._book.changing() as records:
            if name in records:
                raise WrongUse(f"there is a token {name!r} already: rotate it, or revoke it first")
            handle = secrets.token_hex(6)
            token, proof = _made(handle, until)
            scope = None if groups is None else tuple(sorted(set(groups)))
            records[name] = TokenRecord(name, handle, role, scope, now, (proof,))
        return token

    def rotate(self, name: str, days: float, overlap_seconds: float, now: float) -> str:
        """Replace the secret of a token; the old one holds for a while, so that nothing stands still meanwhile.

        Raises
        ------
        WrongUse
            There is no such token, or the new one would end at once, or never.
        """
        until = now + _seconds(days)
        with self._book.changing() as records:
            record = _known(records, name)
            old = replace(record.proofs[-1], until=min(record.proofs[-1].until, now + max(overlap_seconds, 0.0)))
            token, proof = _made(record.handle, until)
            records[name] = replace(record, proofs=(old, proof))
        return token

    def revoke(self, name: str) -> None:
        """Forget a token: it holds no more.

        Raises
        ------
        WrongUse
            There is no such token.
        """
        with self._book.changing() as records:
            _known(records, name)
            del records[name]

    def records(self) -> list[TokenRecord]:
        """Every token, by name."""
        return [record for _, record in sorted(self._book.read().items())]

    def who(self, token: str, now: float) -> Caller | None:
        """Whose token this is; None if it is nobody's, or has ended."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        digest = _digest(match[2])
        for record in self._book.read().values():
            if record.handle != match[1]:
                continue
            # All are compared, whichever is right.
            held = [hmac.compare_digest(proof.sha256, digest) and now < proof.until for proof in record.proofs]
            if any(held):
                return _caller(record, digest)
        return None

    def holds(self, caller: Caller, now: float) -> bool:
        """Whether somebody who came in with a secret would still be let in with it, as the same."""
        record = self._book.read().get(caller.name)
        if record is None or record.handle != caller.handle or _caller(record, caller.proof) != caller:
            return False
        return any(each.sha256 == caller.proof and now < each.until for each in record.proofs)


def _caller(record: TokenRecord, proof: str) -> Caller:
    groups = None if record.groups is None else frozenset(record.groups)
    return Caller(record.name, record.role, groups, record.handle, proof)


def _made(handle: str, until: float) -> tuple[str, Proof]:
    secret = secrets.token_urlsafe(32)
    return f"forestall_{handle}_{secret}", Proof(_digest(secret), until)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _seconds(days: float) -> float:
    if not 0.0 < days <= LONGEST_DAYS:
        raise WrongUse(f"a token holds for more than 0 and at most {LONGEST_DAYS} days, not {days:g}")
    return days * DAY_SECONDS


def _known(records: Mapping[str, TokenRecord], name: str) -> TokenRecord:
    if name not in records:
        raise WrongUse(f"there is no token {name!r}")
    return records[name]
