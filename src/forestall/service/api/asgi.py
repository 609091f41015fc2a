"""What the layers before the routes have in common: the terms of ASGI, and what one layer tells the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
CALLER, BODY, SESSION = "forestall.caller", "forestall.body", "forestall.session"
"""Keys of a scope: who asks, the whole body of what changes something, and the session of a browser."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})


def header(scope: Scope, name: bytes) -> bytes:
    """Value of a header, by its name in small letters; empty if it is not there."""
    found: bytes = next((value for key, value in scope.get("headers", ()) if key == name), b"")
    return found
