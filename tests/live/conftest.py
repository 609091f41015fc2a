"""One lab of two guests for all tests of this folder: booting emulated guests takes longer than most of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_daemon import PATIENCE_SECONDS, Ask, Daemon, Held, load

from forestall.adapters.clock.system import SystemClock
from forestall.lab.commands import PACKAGES, missing
from forestall.lab.image import obtain_image
from forestall.lab.place import DEFAULT_CACHE
from forestall.lab.plan import Pace
from forestall.lab.site import Lab
from forestall.model.errors import ForestallError

GUESTS = ("spare", "database")


@pytest.fixture(scope="session")
def guests() -> Iterator[Lab]:
    """Two guests under a libvirtd of their own."""
    pytest.importorskip("libvirt", reason="libvirt-python is not installed")
    if lacking := missing(PACKAGES):
        pytest.skip(lacking)
    try:
        obtain_image(DEFAULT_CACHE, print)
    except ForestallError as error:
        pytest.skip(str(error))
    with Lab(Path(tempfile.mkdtemp(prefix="fs-live-", dir="/run")), name=f"fs-live-{os.getpid()}") as lab:
        yield lab


@pytest.fixture
def lab(guests: Lab) -> Lab:
    """Both guests run, and are at rest; whatever a test before this one has done to them."""
    guests.up(GUESTS, pace=Pace(day_seconds=1e6))
    guests.wait(PATIENCE_SECONDS)
    for guest in GUESTS:
        load(guests, guest, 0.0)
    return guests


@pytest.fixture
def held(lab: Lab) -> Iterator[Ask]:
    """What libvirt itself says that the guests hold, asked apart from the daemon."""
    from forestall.adapters.libvirt.host import LibvirtHost

    host = LibvirtHost(lab.uri, clock=SystemClock())

    def ask() -> Held:
        running = host.vm_ids()
        return {
            (g, r): amount
            for g in GUESTS
            if lab.domain(g) in running
            for r, amount in host.in_force(lab.domain(g)).items()
        }

    yield ask
    host.close()


@pytest.fixture
def before(held: Ask) -> Held:
    """What the guests hold before a daemon has run."""
    return held()


@pytest.fixture
def daemon(lab: Lab, tmp_path: Path, held: Ask, before: Held) -> Iterator[Daemon]:
    """A daemon that is not yet started; gone, and everything back, at the end."""
    daemon = Daemon(lab, tmp_path)
    yield daemon
    if daemon.runs:
        daemon.end()
    daemon.ask("restore")
    daemon.until(lambda: all(before[key] == amount for key, amount in held().items()), "everything back at the end")
