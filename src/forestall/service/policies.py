"""Policies as versions: those that the file says, and those that were applied while the system runs.

The last word counts, whoever had it: a file that has changed is the newest version when it is looked at again, and so
is a policy that somebody applies. Nothing is forgotten.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from forestall.demand.policy import PolicySet
from forestall.model.errors import BadPolicy, WrongUse
from forestall.ports.policy_book import PolicyBook, PolicyVersion

LONGEST_WORDS = 500
Reading = Callable[[str, str], PolicySet]
"""Reads a text that is known by a name (:func:`forestall.settings.parse_policy`)."""


class Policies:
    """Every version, and what the newest says.

    Parameters
    ----------
    book
        Where they are kept.
    reading
        Reads a text.
    file
        The file that the configuration names, and its text as it is now; None and nothing: it names none.
    now
        Tells the time, seconds UTC.
    """

    def __init__(
        self,
        book: PolicyBook,
        reading: Reading,
        file: Callable[[], tuple[str | None, str]] = lambda: (None, ""),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._book, self._reading, self._file, self._now = book, reading, file, now
        self._said: PolicySet | None = None
        self._number = 0
        self._turn = threading.RLock()

    def take_up(self) -> PolicySet | None:
        """Look at the file, and take it up if it has changed; what is in force, None: nothing.

        Raises
        ------
        BadPolicy
            The newest version cannot be read; everything is as it was.
        StoreError
            It could not be kept.
        """
        file, text = self._file()
        with self._turn:
            said = self._read(file, text)
            if (fresh := self._changed(file, text)) is not None:
                self._book.add(fresh, text)
            self._take(said)
            return said

    def look(self) -> PolicySet | None:
        """What would be in force if the file were taken up; nothing is kept."""
        return self._read(*self._file())

    def _read(self, file: str | None, text: str) -> PolicySet | None:
        if self._changed(file, text) is not None:
            return self._reading(text, file or "no policy")
        return self.kept()

    def kept(self) -> PolicySet | None:
        """What the newest version says; None: there is none."""
        newest = self.newest()
        return None if newest is None else self._reading(self._book.text(newest), _name(newest))

    def _changed(self, file: str | None, text: str) -> PolicyVersion | None:
        """The version that a file would be; None where it says what it said when it was last looked at.

        That no file is named any more says nothing against what was applied since.
        """
        versions = self._book.versions()
        before = next((each for each in reversed(versions) if each.origin == "file"), None)
        digest = _digest(text)
        if (file is not None or versions[-1:] == (before,)) and (before is None or before.digest != digest):
            comment = "" if file else "the configuration names no file any more"
            return PolicyVersion(len(versions) + 1, self._now(), "file", file or "", comment, digest)
        return None

    def apply(self, text: str, by: str, comment: str = "", base: int | None = None) -> PolicyVersion | None:
        """Put a policy in force; None: the newest version is not ``base`` any more.

        What says the same as the newest version is no new one. What the file says now is older than this: it is taken
        up before, if it can be read.

        Raises
        ------
        BadPolicy
            It cannot be read, with line, rule and key.
        WrongUse
            The comment is too long.
        StoreError
            It could not be kept.
        """
        for words in (comment, by):
            if len(words) > LONGEST_WORDS or not words.isprintable():
                raise WrongUse(f"{words[:40]!r}: must be at most {LONGEST_WORDS} printable characters")
        with self._turn:
            said = self._reading(text, "policy")
            with suppress(BadPolicy):
                self.take_up()
            newest = self.newest()
            number = newest.number if newest else 0
            if base is not None and base != number:
                return None
            if newest is None or newest.digest != _digest(text):
                newest = PolicyVersion(number + 1, self._now(), "applied", by, comment, _digest(text))
                self._book.add(newest, text)
            self._take(said)
            return newest

    def apply_and_view(self, text: str, by: str, comment: str = "", base: int | None = None) -> dict[str, Any]:
        """Apply a policy, as plain values: whether it is in force, and the newest version with its text."""
        with self._turn:
            done = self.apply(text, by, comment, base) is not None
            return {"applied": done, "policy": self.view()}

    def newest(self) -> PolicyVersion | None:
        """The version in force; None: there is none."""
        return next(iter(self._book.versions()[-1:]), None)

    def in_force(self) -> PolicySet | None:
        """What it says, as it was taken up or applied last."""
        return self._said

    @property
    def number(self) -> int:
        """Number of the version that was taken up or applied last; 0: there was none."""
        return self._number

    def _take(self, said: PolicySet | None) -> None:
        newest = self.newest()
        self._said, self._number = said, newest.number if newest else 0

    def views(self) -> list[dict[str, Any]]:
        """Every version without its text, the oldest first."""
        return [asdict(each) for each in self._book.versions()]

    def view(self, number: int | None = None) -> dict[str, Any]:
        """One version with its text; None: the newest. Before there was any it is number 0, and says nothing."""
        versions = self._book.versions()
        if number is None:
            number = len(versions)
        if number == 0:
            return asdict(PolicyVersion(0, 0.0, "file", "", "", _digest(""))) | {"text": ""}
        found = next((each for each in versions if each.number == number), None)
        if found is None:
            raise WrongUse(f"there is no version {number} of the policy")
        return asdict(found) | {"text": self._book.text(found)}


def _name(version: PolicyVersion) -> str:
    return version.by if version.origin == "file" and version.by else f"version {version.number} of the policy"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
