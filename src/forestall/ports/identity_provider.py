"""Who people are, as a provider of identities confirms it (OpenID Connect)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Attempt:
    """One attempt to sign in; all are made by chance, and known to one browser only.

    Attributes
    ----------
    state
        Comes back with the browser: it is the answer to this attempt.
    nonce
        Stands in what the provider signs: it was signed for this attempt.
    verifier
        Is shown when the code is exchanged (RFC 7636): the code is of no use to who has only seen it.
    """

    state: str
    nonce: str
    verifier: str


class IdentityProvider(Protocol):
    """Sends people to where they say who they are. Errors are :class:`~forestall.model.errors.IdentityError`."""

    async def address(self, attempt: Attempt, back: str) -> str:
        """Where to send the browser; ``back`` is where it is to come back to."""
        ...

    async def claims(self, attempt: Attempt, code: str, back: str) -> Mapping[str, Any]:
        """What the provider says of who came back with a code, after everything it is to be checked by was checked."""
        ...
