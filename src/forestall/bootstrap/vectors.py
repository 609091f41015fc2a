"""Where a host's vectors go: into its own store, or to the controller, over a spool on the disk."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from forestall.bootstrap.controller import expiry_warning, identity_of
from forestall.model.errors import BadInput
from forestall.ports.clock import Clock
from forestall.ports.vectors import Origin, VectorBatch, VectorStore
from forestall.service.configuration import Configuration

STORE, SPOOL, HERE = "forestall.duckdb", "spool", ""
Keep = Callable[[VectorBatch], None]


def vectors_of(
    configuration: Configuration, clock: Clock, note: Callable[[str], None], parts: list[Any]
) -> tuple[Keep, VectorStore | None]:
    """What takes vectors, and the store that has them if it is this host's; ``parts`` closes both.

    Raises
    ------
    BadInput
        The controller is to be spoken to, and our certificate cannot be read.
    """
    if configuration.controller.url:
        return _forwarded(configuration, clock, note, parts), None
    from forestall.adapters.duckdb.vectors import DuckdbVectors

    store = DuckdbVectors(configuration.state_folder / STORE, clock.now)
    parts.append(store)
    spool, numbers, turn = secrets.token_hex(8), itertools.count(1), threading.Lock()

    def keep(batch: VectorBatch) -> None:
        with turn:  # numbers must arrive in their order
            store.apply(Origin(HERE, spool, next(numbers)), batch)

    return keep, store


def _forwarded(configuration: Configuration, clock: Clock, note: Callable[[str], None], parts: list[Any]) -> Keep:
    from forestall.adapters.clock.system import SystemClock
    from forestall.adapters.https.client import Uplink
    from forestall.adapters.vector_spool.spool import FileSpool
    from forestall.service.forwarding import Forwarding, Gathering
    from forestall.service.vector_frames import encode

    settings, host_clock = configuration.controller, SystemClock()
    identity = identity_of(settings)
    if warning := expiry_warning(identity.certificate, datetime.now(UTC)):
        note(warning)
    if not identity.key.exists():
        raise BadInput("is not there: forestall pki issue", path=identity.key)
    spool = FileSpool(
        configuration.state_folder / SPOOL,
        encode,
        host_clock.now,
        max_bytes=settings.spool_bytes,
        max_age_seconds=settings.spool_seconds,
    )
    forwarding = Forwarding(spool, Uplink(settings.url, identity), note)
    gathering = Gathering(spool, host_clock.monotonic)
    parts += [forwarding, gathering]
    forwarding.start()
    return gathering.add
