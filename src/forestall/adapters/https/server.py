"""Serves an ASGI application over HTTPS; the application learns who asks from ``scope["forestall.host"]``."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from forestall.adapters.https.contexts import Trust
from forestall.model.errors import StoreError

CONNECTIONS, IDLE_SECONDS = 2_000, 75
MAX_HEADER_BYTES = 16 * 1024
NEVER = "Jan  1 00:00:00 1970 GMT"


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that tells the application whose certificate it was, as long as that holds."""

    trust: Trust

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the name in the certificate, and until when to believe it."""
        super().connection_made(transport)
        application, generation = self.app, self.trust.generation
        certificate = transport.get_extra_info("peercert") or {}
        host, end = common_name(certificate), ssl.cert_time_to_seconds(certificate.get("notAfter", NEVER))

        async def told(scope: Any, receive: Any, send: Any) -> None:
            if self.trust.generation != generation or time.time() > end:
                await send({"type": "http.response.start", "status": 401, "headers": [(b"connection", b"close")]})
                await send({"type": "http.response.body", "body": b"show your certificate again"})
                return
            await application({**scope, "forestall.host": host}, receive, send)

        self.app = told


def common_name(certificate: Any) -> str:
    """Common name of a peer's certificate as ``ssl`` gives it; empty if it has none."""
    parts = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return str(parts[0]) if len(parts) == 1 else ""


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises
    ------
    StoreError
        The address is taken, or none of ours.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise StoreError(f"cannot listen at {address}:{port}: {getattr(error, 'strerror', '') or error}") from error


def server_of(application: Any, trust: Trust) -> uvicorn.Server:
    """A server that is run with ``run([socket])`` and ends when its ``should_exit`` is set."""
    return configured(application, type("TrustingProtocol", (PeerProtocol,), {"trust": trust}), trust.context)


def configured(application: Any, protocol: type[H11Protocol], context: ssl.SSLContext | None) -> uvicorn.Server:
    """A server of ours: bounds on connections and headers, no word about itself, and no log of its own."""
    config = uvicorn.Config(
        application,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    config.load()
    config.ssl = context
    return uvicorn.Server(config)
