"""Sessions of browsers: who has shown a token once has one, until it ends or the token does.

The name of a session is a secret of 256 bits that only the browser keeps; here is its hash, as of tokens. They are in
memory: when the process ends, everybody signs in again. With each goes a second secret that only pages of ours know;
what changes something has to show it (OWASP Cross-Site Request Forgery Prevention Cheat Sheet, synchroniser token).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from forestall.service.access.tokens import Caller

SESSION_SECONDS = 12 * 3600.0
MOST_OF_ONE, MOST = 20, 2_000


@dataclass(frozen=True)
class Session:
    """Somebody who has signed in.

    Attributes
    ----------
    caller
        Who.
    mark
        What a page shows with each change.
    until
        When it ends, seconds.
    """

    caller: Caller
    mark: str
    until: float

    def meant(self, mark: str) -> bool:
        """Whether a change comes from one of our pages."""
        return hmac.compare_digest(self.mark.encode(), mark.encode("utf-8", "replace"))


class Sessions:
    """All sessions of a process, the oldest first.

    Parameters
    ----------
    holds
        Whether somebody's token still lets them in at an instant, as the same.
    """

    def __init__(self, holds: Callable[[Caller, float], bool]) -> None:
        self._holds = holds
        self._sessions: dict[str, Session] = {}
        self._turn = threading.Lock()

    def begin(self, caller: Caller, now: float) -> str:
        """Begin one, and return its name; of those of the same token the oldest end, when there are too many."""
        name, mark = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        with self._turn:
            self._sessions = {key: each for key, each in self._sessions.items() if now < each.until}
            own = [key for key, each in self._sessions.items() if each.caller.handle == caller.handle]
            for key in own[: max(len(own) + 1 - MOST_OF_ONE, 0)]:
                del self._sessions[key]
            while len(self._sessions) >= MOST:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_digest(name)] = Session(caller, mark, now + SESSION_SECONDS)
        return name

    def of(self, name: str, now: float) -> Session | None:
        """The session of that name; None if there is none, or none any more."""
        with self._turn:
            found = self._sessions.get(_digest(name))
        if found is None:
            return None
        if now < found.until and self._holds(found.caller, now):
            return found
        self.end(name)
        return None

    def end(self, name: str) -> None:
        """Forget a session."""
        with self._turn:
            self._sessions.pop(_digest(name), None)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
