"""Puts the controller together, and a host's line to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.files.liveness import locked
from forestall.bootstrap.live import STORE, tell
from forestall.model.errors import BadInput, StoreError
from forestall.service.configuration import Configuration, ControllerConfiguration

if TYPE_CHECKING:
    import ssl

    from forestall.adapters.https.contexts import Identity
    from forestall.ports.vectors import VectorStore

EXPIRY_DAYS = 14
"""A certificate that ends sooner is warned of once a day."""
DAY_SECONDS, MAINTAIN_SECONDS, RENEW_SECONDS = 86_400.0, 3_600.0, 10.0


def identity_of(settings: ControllerConfiguration) -> Identity:
    """Files of a host or of the controller."""
    from forestall.adapters.https.contexts import Identity

    return Identity(settings.certificate, settings.key, settings.authority, settings.revoked)


def expiry_warning(certificate: Path, now: datetime) -> str:
    """Says that a certificate has ended, or ends soon; empty where it does not."""
    from forestall.adapters.pki.authority import ends_at

    left = ends_at(certificate) - now
    if left > timedelta(days=EXPIRY_DAYS):
        return ""
    when = "has ended" if left < timedelta(0) else f"ends in {left.days} days" if left.days else "ends today"
    return f"{certificate}: {when}: forestall pki issue"


def run_controller(configuration: Configuration) -> int:
    """Take vectors of hosts until told to stop.

    Raises
    ------
    BadInput
        Files of ``[controller]`` are not there, or no certificates.
    StoreError
        Another process works on the state folder, or the address is taken.
    """
    from forestall.adapters.duckdb.vectors import DuckdbVectors
    from forestall.adapters.https.contexts import server_context
    from forestall.adapters.https.server import listen, server_of
    from forestall.service.daemon import Notes
    from forestall.service.ingest import Ingest

    settings, clock = configuration.controller, SystemClock()
    identity, notes = identity_of(settings), Notes(tell, clock)
    address, _, port = settings.listen.rpartition(":")
    context = server_context(identity, lambda why: notes(f"refused: at the door: {why}"))
    with (
        locked(configuration.state_folder),
        closing(listen(address.strip("[]"), int(port))) as door,
        closing(DuckdbVectors(configuration.state_folder / STORE, clock.now)) as store,
        Upkeep(store, context, identity, notes),
    ):
        tell(f"listening at {settings.listen}")
        server_of(Ingest(store, notes), context).run([door])
    return 0


class Upkeep:
    """What is done now and then beside the server: renewed files are taken up, vectors rolled up, ends warned of."""

    def __init__(
        self, store: VectorStore, context: ssl.SSLContext, identity: Identity, note: Callable[[str], None]
    ) -> None:
        self._store, self._context, self._identity, self._note = store, context, identity, note
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def __enter__(self) -> Upkeep:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        from forestall.adapters.https.contexts import renew

        clock = SystemClock()
        seen, maintained_at, warned_at = self._changed_at(), clock.monotonic(), float("-inf")
        while True:
            try:
                if (now := clock.monotonic()) - warned_at >= DAY_SECONDS:
                    warned_at = now
                    if warning := expiry_warning(self._identity.certificate, datetime.now(UTC)):
                        self._note(warning)
                if (changed := self._changed_at()) != seen:
                    seen = changed
                    renew(self._context, self._identity)
                    self._note("certificates were read anew")
                if now - maintained_at >= MAINTAIN_SECONDS:
                    maintained_at = now
                    self._store.maintain(int(clock.now()))
            except (BadInput, StoreError) as error:
                self._note(str(error))
            if self._stop.wait(RENEW_SECONDS):
                return

    def _changed_at(self) -> tuple[float, ...]:
        files = (self._identity.certificate, self._identity.key, self._identity.revoked)
        return tuple(path.stat().st_mtime for path in files if path.exists())
