"""Puts together the process of the fabric loop."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forestall.adapters.files.fabric_book import FileFabricBook
from forestall.adapters.files.liveness import locked
from forestall.adapters.files.traffic_log import TrafficLog
from forestall.bootstrap.live import clock_of
from forestall.bootstrap.telling import tell
from forestall.fabric.candidates import SENT
from forestall.fabric.classes import TrafficClass, class_of
from forestall.fabric.driver import FabricDriver
from forestall.fabric.limits import Claim
from forestall.fabric.network import Network
from forestall.fabric.outlook import STEP_SECONDS, Outlook, Series
from forestall.fabric.planner import PlannerSettings
from forestall.fabric.settings import FabricSettings
from forestall.model.errors import BadInput, ForestallError, Unsupported, WrongUse
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.fabric import Interface
from forestall.replay.traffic.trace import read_traffic_trace
from forestall.service.configuration import Configuration, ControllerConfiguration
from forestall.service.control import ask, serving
from forestall.service.fabric import FabricLoop
from forestall.service.stopping import Signals

if TYPE_CHECKING:
    import ssl

FOLDER = "fabric"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ASK_AGAIN_SECONDS = 60.0
ASK_SECONDS = 2.0
SURE = 0.8
"""An application that is recognised with less probability says nothing about a class."""


def fabric_folder(configuration: Configuration) -> Path:
    """Where the loop keeps its state, and its socket is."""
    return configuration.state_folder / FOLDER


def run_fabric(configuration: Configuration, namespace: Path | None = None, history: Path | None = None) -> int:
    """Run the loop until told to stop.

    Parameters
    ----------
    configuration
        How.
    namespace
        Of the network that ports of switches are in; None: ours.
    history
        A traffic trace between VMs, by their names, to be learned from first; None: what was seen here before.

    Raises
    ------
    WrongUse
        It is to change nothing, and is not told how switches are connected.
    FabricError
        A database does not answer, or the address is taken.
    """
    try:
        from forestall.adapters.openvswitch.database import Database
        from forestall.adapters.openvswitch.fabric import OpenVSwitchFabric
    except ImportError as error:
        raise Unsupported("os-ken is not installed: install forestall with the extra 'fabric'") from error
    from forestall.settings import load_cables

    stated = configuration.fabric
    acts = configuration.mode is Mode.ENFORCE
    cables = load_cables(stated.topology) if stated.topology is not None else None
    if not acts and cables is None:
        raise WrongUse(
            f"in mode {configuration.mode} switches are told nothing, and cannot find their neighbours: "
            "set [fabric] topology"
        )
    if stated.queues == "auto" and not all(remote.startswith("unix:") for remote in stated.databases):
        raise WrongUse("[fabric] queues need filters in the kernel of each host: that can be done on this one alone")
    folder = fabric_folder(configuration)
    settings = FabricSettings(
        step_seconds=stated.step_seconds,
        most_pairs=stated.most_pairs,
        link_bytes_per_s=stated.link_bytes_per_s,
        queues=stated.queues == "auto",
        limits=stated.limits == "auto",
        listens=cables is None,
        planner=PlannerSettings.of(stated.step_seconds, whole=True),
    )
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        names = VmNames(configuration.connect)
        databases = [Database(remote, namespace, names, tell) for remote in stated.databases]
        context = context_of(configuration.controller) if stated.listen.startswith("pssl:") else None
        fabric = OpenVSwitchFabric(stated.listen, databases, time.monotonic, cables, context, tell)
        stack.enter_context(closing(fabric))
        clock, log = clock_of(configuration), TrafficLog(folder)
        driver = FabricDriver(
            fabric,
            settings,
            FileFabricBook(folder, tell),
            time.monotonic,
            clock.now,
            time.sleep,
            log.add,
            Claims(configuration, clock.now),
            tell,
            acts=acts,
            luck=random.random(),
        )
        loop = FabricLoop(driver, fabric, stated.step_seconds, time.monotonic, "enforce" if acts else "advise", tell)
        past = list(log.read()) if history is None else history_of(history, fabric.view().interfaces)
        signals = Signals()
        if past:
            threading.Thread(target=remember, args=(loop, past), name="past", daemon=True).start()
        stack.enter_context(serving(folder, loop.answer))
        tell(f"switches are listened for at {stated.listen}")
        with signals.listening():
            loop.run(signals)
    return 0


def remember(loop: FabricLoop, past: list[tuple[int, dict[Series, float]]]) -> None:
    """Learn from the past, beside the loop: switches do not wait for it."""
    outlook = Outlook()
    for starts_at, peaks in past:
        outlook.learn_at(peaks, starts_at)
    loop.take_over(outlook)


def history_of(path: Path, interfaces: tuple[Interface, ...]) -> list[tuple[int, dict[Series, float]]]:
    """Peaks of each interval of the forecast, from a traffic trace whose nodes are VMs.

    Raises
    ------
    BadInput
        The trace cannot be read, or names a VM that is not connected.
    """
    address = {each.vm_id: each.address for each in interfaces}
    trace = read_traffic_trace(path, Network.of(address, ()), tell)
    names = [(address[names[a]], address[names[b]]) for names in [list(address)] for a, b in trace.pairs]
    found: dict[int, dict[Series, float]] = {}
    for k, rates in enumerate(trace.traffic):
        begins, ends = trace.instant(k), trace.instant(k) + trace.step_seconds
        sent: dict[Series, float] = {}
        for (source, _), rate in zip(names, rates.tolist(), strict=True):
            sent[SENT, source] = sent.get((SENT, source), 0.0) + rate
        for at in range(begins // STEP_SECONDS * STEP_SECONDS, ends, STEP_SECONDS):
            peaks = found.setdefault(at, {})
            for name, rate in [*zip(names, rates.tolist(), strict=True), *sent.items()]:
                peaks[name] = max(rate, peaks.get(name, 0.0))
    return sorted(found.items())


def context_of(files: ControllerConfiguration) -> ssl.SSLContext:
    """Certificates of both sides: a switch must show one of our authority.

    Raises
    ------
    BadInput
        A file is missing, or no certificate.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
    except OSError as error:
        raise BadInput(f"{files.certificate}, {files.key}, {files.authority}: {error}") from error
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class VmNames:
    """Names of VMs by the UUID that libvirt writes down at their ports; what is no UUID it knows is a name already."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._names: dict[str, str] = {}
        self._asked: dict[str, float] = {}

    def __call__(self, vm_id: str) -> str:
        """The name, or what was given."""
        if not UUID.fullmatch(vm_id):
            return vm_id
        now = time.monotonic()
        if vm_id not in self._names and now - self._asked.get(vm_id, float("-inf")) > ASK_AGAIN_SECONDS:
            self._asked[vm_id] = now
            try:
                from forestall.adapters.libvirt.connection import Connection
                from forestall.adapters.libvirt.errors import translated

                with closing(Connection(self._uri)) as connection, translated("names of VMs"):
                    domains = connection.handle().listAllDomains()
                    self._names = {domain.UUIDString(): domain.name() for domain in domains}
            except (ImportError, ForestallError):
                return vm_id
        return self._names.get(vm_id, vm_id)


class Claims:
    """What is known of VMs: the operator's word, else what the daemon on this host recognises in them."""

    def __init__(self, configuration: Configuration, now: Callable[[], float]) -> None:
        from forestall.bootstrap.policies import policies_of

        fabric = configuration.fabric
        self._folder, self._now = configuration.state_folder, now
        self._policy = policies_of(configuration).look()
        self._patterns = {
            TrafficClass.LATENCY_SENSITIVE: fabric.latency_sensitive,
            TrafficClass.INTERACTIVE: fabric.interactive,
            TrafficClass.BULK: fabric.bulk,
            TrafficClass.BACKGROUND: fabric.background,
        }
        self._recognised: dict[str, TrafficClass] = {}

    def __call__(self, vm_ids: tuple[str, ...]) -> Mapping[str, Claim]:
        """Of these VMs, those of which anything is known."""
        self._ask()
        found = {vm_id: Claim(self._stated(vm_id) or self._recognised.get(vm_id)) for vm_id in vm_ids}
        if self._policy is None or not vm_ids:
            return found
        limit = np.full((len(vm_ids), 1), np.inf)
        table = self._policy.resolve(vm_ids, (Resource.NET_TX,), limit, int(self._now()))
        return {
            vm_id: claim._replace(
                weight=float(table.weight[k, 0]),
                floor_bytes_per_s=float(table.floor[k, 0]),
                ceiling_bytes_per_s=float(table.ceiling[k, 0]),
                budget=float(table.budget[k, 0]),
            )
            for k, (vm_id, claim) in enumerate(found.items())
        }

    def _stated(self, vm_id: str) -> TrafficClass | None:
        of = (each for each, patterns in self._patterns.items() if any(fnmatchcase(vm_id, p) for p in patterns))
        return next(of, None)

    def _ask(self) -> None:
        if not os.path.exists(self._folder):
            return
        try:
            answer: Any = ask(self._folder, {"command": "applications"}, ASK_SECONDS)
        except ForestallError:
            return  # it is busy: what it said before still holds
        if answer is None:
            return
        for row in answer:
            name = row["tag"] or (row["application"] if row["probability"] >= SURE else "")
            if name:
                self._recognised[row["vm_id"]] = class_of(name)
