"""Telling whoever asked for something that it is there, or will not be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

SCHEMES = ("https://", "http://", "unix:/")
"""What the name of a target begins with: a web address, or a socket of this host."""


class NoticeSender(Protocol):
    """Sends notices, off the caller's path."""

    def send(self, target: str, notice: Mapping[str, Any]) -> None:
        """Send plain values to a target, some time soon, again and again for a while if it does not take them."""
        ...
