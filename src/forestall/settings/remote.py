"""The API that commands ask instead of the daemon of this host, from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from forestall.model.errors import WrongUse

API, TOKEN, TOKEN_FILE, AUTHORITY = "FORESTALL_API", "FORESTALL_TOKEN", "FORESTALL_TOKEN_FILE", "FORESTALL_CA"


@dataclass(frozen=True)
class Remote:
    """Where an API is, and as whom to ask it."""

    url: str
    token: str = field(repr=False)
    authority: Path | None = None


def remote_api() -> Remote | None:
    """What ``FORESTALL_API``, ``FORESTALL_TOKEN`` or ``FORESTALL_TOKEN_FILE``, and ``FORESTALL_CA`` say; None: nothing.

    Raises
    ------
    WrongUse
        An address without a token, or a file that cannot be read.
    """
    url = os.environ.get(API, "")
    if not url:
        return None
    token, file = os.environ.get(TOKEN, "").strip(), os.environ.get(TOKEN_FILE, "")
    if not token and file:
        try:
            token = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUse(f"{TOKEN_FILE}: {file} cannot be read: {error}") from error
    if not token:
        raise WrongUse(f"{API} is set, and no token: {TOKEN} or {TOKEN_FILE}")
    authority = os.environ.get(AUTHORITY, "")
    return Remote(url, token, Path(authority) if authority else None)
