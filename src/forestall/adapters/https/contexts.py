"""TLS as it is between hosts and the centre: 1.3, both sides show a certificate of the same authority; RFC 8446."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.model.errors import BadInput


@dataclass(frozen=True)
class Identity:
    """Files that say who we are, and whom we believe.

    Attributes
    ----------
    certificate, key
        Ours.
    authority
        Certificate of the authority that we believe.
    revoked
        Its list of what was revoked. Where it is missing nobody is believed.
    """

    certificate: Path
    key: Path
    authority: Path
    revoked: Path


def client_context(identity: Identity) -> ssl.SSLContext:
    """For a host that speaks to the centre."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, identity)


class Trust:
    """Whom the centre believes now.

    Parameters
    ----------
    identity
        Who it is, and whom it believes.
    refused
        Told in one line why somebody was refused at the door.

    Attributes
    ----------
    context
        For its connections.
    generation
        Rises when files were taken up anew: who came in before has to come in again.
    """

    def __init__(self, identity: Identity, refused: Callable[[str], None]) -> None:
        self.identity, self.context, self.generation = identity, _server_context(identity, refused), 0

    def renew(self) -> None:
        """Take up the files as they are now; BadInput, and all as before, where they cannot be used."""
        renew(self.context, self.identity)
        self.generation += 1


def _server_context(identity: Identity, refused: Callable[[str], None]) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.verify_mode = ssl.CERT_REQUIRED

    class Door(ssl.SSLObject):
        """Says why a handshake failed."""

        def do_handshake(self) -> Any:
            try:
                return super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                refused(why(error))
                raise

    context.sslobject_class = Door
    return context


def renew(context: ssl.SSLContext, identity: Identity) -> None:
    """Take the files as they are now for all connections to come."""
    try:
        context.load_verify_locations(identity.revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.load_cert_chain(identity.certificate, identity.key)
    except (OSError, ssl.SSLError) as error:
        files = " and ".join(map(str, (identity.certificate, identity.key, identity.revoked)))
        raise BadInput(f"cannot be used: {why(error)}: forestall pki", path=files) from error


def why(error: OSError) -> str:
    """A failure of TLS in a clause."""
    reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror or str(error)
    return str(reason).lower().replace("_", " ")


def _context(protocol: int, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(identity.authority)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"is no authority's certificate: {why(error)}", path=identity.authority) from error
    renew(context, identity)
    return context
