"""Puts together what looks after disks on tiers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from contextlib import closing
from typing import TYPE_CHECKING, Any

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.files.tier_book import FileMoveBook, FileUses
from forestall.bootstrap.live import SIMULATED
from forestall.bootstrap.telling import tell
from forestall.model.errors import ForestallError, StoreError

if TYPE_CHECKING:
    from forestall.demand.driver import Driver
    from forestall.service.configuration import Configuration
    from forestall.service.tiering import Tiering


def tiering_of(
    configuration: Configuration,
    driver: Driver,
    turn: threading.RLock,
    note: Callable[[str], None],
    parts: list[Any],
) -> Tiering | None:
    """Who looks after disks on tiers; None where there are none, or we cannot. ``parts`` closes it."""
    from forestall.adapters.libvirt.connection import Connection
    from forestall.adapters.libvirt.storage_tiers import StorageTiers
    from forestall.service.tiering import Tiering
    from forestall.staging.tiers.loop import TierLoop
    from forestall.staging.tiers.plan import TierSettings

    stated, folder = configuration.tiers, configuration.state_folder
    if not stated.names or configuration.connect.startswith(SIMULATED):
        for vm_id, why in finish_moves(configuration).items():
            note(f"a disk of {vm_id} is being moved still: {why}")
        return None
    connection = Connection(configuration.connect)
    if not connection.is_local or os.geteuid() != 0:
        note("disks are not looked after: that needs root, and a libvirt on this host")
        return None
    settings = TierSettings(
        look_ahead_hours=stated.look_ahead_hours,
        gain_ratio=stated.gain_ratio,
        bytes_per_s=stated.move_bytes_per_s,
        keep_free_bytes=stated.keep_free_bytes,
        least_seen_hours=stated.least_seen_hours,
        removes_old=stated.old_images == "remove",
    )

    def may_move(vm_id: str) -> bool:
        with turn:
            return driver.may_act(vm_id) and not driver.is_left_alone(vm_id)

    tiers = StorageTiers(connection, tuple(zip(stated.names, stated.request_ms, strict=True)))
    book, uses = FileMoveBook(folder), FileUses(folder)
    moves = stated.moves == "auto"
    tiering = Tiering(TierLoop(tiers, book, uses, settings, SystemClock().now, may_move, note, moves=moves), note)
    parts += [connection, tiering]
    tiering.start()
    return tiering


def open_moves(configuration: Configuration) -> set[str]:
    """VMs of which a disk is being moved, as far as the book can be read."""
    try:
        return {move.vm_id for move in FileMoveBook(configuration.state_folder).moves() if move.state.is_open}
    except StoreError as error:
        tell(str(error))
        return set()


def finish_moves(configuration: Configuration, vm_ids: Collection[str] | None = None) -> dict[str, str]:
    """End moves of disks that a process that is gone has left open, of these VMs or of any; which still are, why."""
    from forestall.staging.tiers.loop import finish, outcome

    left = open_moves(configuration)
    left &= left if vm_ids is None else set(vm_ids)
    if not left:
        return {}
    from forestall.adapters.libvirt.connection import Connection
    from forestall.adapters.libvirt.storage_tiers import StorageTiers

    removes_old = configuration.tiers.old_images == "remove"
    book = FileMoveBook(configuration.state_folder)
    try:
        with closing(Connection(configuration.connect)) as connection:
            tiers = StorageTiers(connection, ())
            for move in finish(tiers, book, SystemClock().now, removes_old=removes_old, vm_ids=left):
                tell(outcome(move))
                left.discard(move.vm_id)
    except ForestallError as error:
        return dict.fromkeys(sorted(left), str(error))
    return {}
