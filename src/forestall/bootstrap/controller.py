"""Puts the controller together, and a host's line to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.files.liveness import locked
from forestall.bootstrap.live import STORE
from forestall.bootstrap.telling import tell
from forestall.model.errors import ForestallError
from forestall.service.configuration import Configuration, ControllerConfiguration

if TYPE_CHECKING:
    from forestall.adapters.https.contexts import Identity, Trust
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
    from forestall.adapters.https.contexts import Trust
    from forestall.adapters.https.server import listen, server_of
    from forestall.service.daemon import Notes
    from forestall.service.ingest import Ingest

    settings, clock = configuration.controller, SystemClock()
    notes = Notes(tell, clock)
    address, _, port = settings.listen.rpartition(":")
    trust = Trust(identity_of(settings), lambda why: notes(f"refused: at the door: {why}"))
    with (
        locked(configuration.state_folder),
        closing(listen(address.strip("[]"), int(port))) as door,
        closing(DuckdbVectors(configuration.state_folder / STORE, clock.now)) as store,
        Upkeep(store, trust, notes),
    ):
        tell(f"listening at {settings.listen}")
        server_of(Ingest(store, notes), trust).run([door])
    return 0


class Upkeep:
    """What is done now and then beside the server: renewed files are taken up, vectors rolled up, ends warned of."""

    def __init__(self, store: VectorStore, trust: Trust, note: Callable[[str], None]) -> None:
        self._store, self._trust, self._note = store, trust, note
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def __enter__(self) -> Upkeep:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        clock = SystemClock()
        seen, maintained_at, warned_at = self._changed_at(), clock.monotonic(), float("-inf")
        while True:
            try:
                if (now := clock.monotonic()) - warned_at >= DAY_SECONDS:
                    warned_at = now
                    if warning := expiry_warning(self._trust.identity.certificate, datetime.now(UTC)):
                        self._note(warning)
                if (changed := self._changed_at()) != seen:
                    self._trust.renew()
                    seen = changed
                    self._note("certificates were read anew")
                if now - maintained_at >= MAINTAIN_SECONDS:
                    maintained_at = now
                    self._store.maintain(int(clock.now()))
            except ForestallError as error:
                self._note(str(error))
            except Exception as error:  # a defect here must not end it: no list of what was revoked would be read
                self._note(f"upkeep: {type(error).__name__}: {error}")
            if self._stop.wait(RENEW_SECONDS):
                return

    def _changed_at(self) -> tuple[float, ...]:
        found = []
        for path in (self._trust.identity.certificate, self._trust.identity.key, self._trust.identity.revoked):
            with suppress(OSError):  # it is just being replaced
                found.append(path.stat().st_mtime)
        return tuple(found)
