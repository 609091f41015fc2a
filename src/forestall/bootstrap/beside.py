"""Puts together what stands beside a daemon's loop: the channels to guests, and what recognises their applications."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from forestall.adapters.clock.system import SystemClock
from forestall.bootstrap.live import Opened
from forestall.ports.vectors import VectorBatch, VectorKind, VectorStore
from forestall.service.configuration import Configuration
from forestall.service.guests import Guests, NoGuests

if TYPE_CHECKING:
    from forestall.demand.driver import Driver
    from forestall.ports.traffic import TrafficEar
    from forestall.profiling.applications import ApplicationModel
    from forestall.service.outside import Outside

MODEL = "applications.txt"


@dataclass(frozen=True)
class Beside:
    """What has its turn after each cycle."""

    guests: Guests | NoGuests
    outside: Outside
    vectors: VectorStore | None


def beside_of(
    configuration: Configuration, opened: Opened, driver: Driver, note: Callable[[str], None], parts: list[Any]
) -> Beside:
    """What makes vectors of VMs, from inside and outside, and recognises what runs in them; ``parts`` closes it."""
    from forestall.adapters.files.group_keys import FileGroupKeys
    from forestall.adapters.guest_channel.channels import GuestChannels
    from forestall.bootstrap.vectors import vectors_of
    from forestall.service.outside import Outside
    from forestall.service.profiling import Profiling
    from forestall.service.recognition import Recognition

    system, now = SystemClock(), opened.clock.now
    kept, store = vectors_of(configuration, opened.clock, note, parts)
    keys = FileGroupKeys(configuration.state_folder)
    ear = ear_of(configuration, note)
    recognition = Recognition(shipped_model(), ear, keys, driver.trust_groups, kept, now, note)

    def keep(batch: VectorBatch) -> None:
        if batch.kind is VectorKind.PROFILE:
            recognition.behave(batch)
        kept(batch)

    guests: Guests | NoGuests = NoGuests()
    if configuration.guests.channel != "off":
        channels = GuestChannels(system.now)
        profiling = Profiling(channels, keep, driver.trust_groups, now, note)
        guests = Guests(channels, opened.host, driver.views, now, profiling)
        parts.append(guests)
        profiling.start()
    outside = Outside(driver, opened.host, recognition, guests.speaking, keep, now, system.monotonic, note, store)
    parts.append(outside)
    recognition.start()
    return Beside(guests, outside, store)


def ear_of(configuration: Configuration, note: Callable[[str], None]) -> TrafficEar | None:
    """What listens to the traffic of VMs; None where it is not wanted or cannot be."""
    if configuration.applications.traffic == "off":
        return None
    if find_spec("nfstream") is None:
        note("applications are recognised by behaviour alone: the extra 'traffic' is not installed")
        return None
    if os.geteuid() != 0:
        note("applications are recognised by behaviour alone: listening at taps needs root")
        return None
    from forestall.adapters.nfstream.ear import NfstreamEar

    return NfstreamEar()


def shipped_model() -> ApplicationModel:
    """The classifier that comes with Forestall."""
    from forestall.profiling.applications import ApplicationModel

    return ApplicationModel(files("forestall.profiling").joinpath("shipped", MODEL).read_text())
