"""Keys of trust groups, all made from one secret of this host in a file that only its owner can read."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from forestall.model.errors import StoreError

NAME, BYTES = "trust-groups.key", 32


class FileGroupKeys:
    """Keys by which what belongs to a trust group is hashed; the secret is made when it is first needed.

    Parameters
    ----------
    folder
        Where the secret is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._secret = b""

    def __call__(self, group: str) -> bytes:
        """Key of a group (32 bytes), by its name; the same as long as the secret is.

        Raises
        ------
        StoreError
            The secret can be neither read nor made.
        """
        self._secret = self._secret or self._read()
        return hashlib.blake2b(group.encode(), digest_size=BYTES, key=self._secret).digest()

    def _read(self) -> bytes:
        try:
            if not self._path.exists():
                self._make()
            self._path.chmod(0o600)
            secret = self._path.read_bytes()
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        if len(secret) != BYTES:
            raise StoreError(f"{self._path}: is no key of {BYTES} bytes")
        return secret

    def _make(self) -> None:
        """Write a new secret, as a whole or not at all; one that was made meanwhile stays."""
        fresh = self._path.with_name(f"{NAME}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(BYTES))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(fresh, self._path)
        finally:
            fresh.unlink()
