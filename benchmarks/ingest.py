"""Many hosts' guests through one controller: what it costs, how late vectors are, and whether each arrives once.

    python benchmarks/ingest.py [--guests 5000] [--hosts 50] [--minutes 5] [--away 10] [--folder FOLDER]

Real processes and real files: a controller, and hosts (threads of this process) that each gather vectors of their
guests every ten seconds into frames, let them wait in a spool, and send them over mutual TLS. Vectors are those of the
lab's guests, from the recording, each guest from another moment on and with a scale of its own. After the first minutes
the controller is killed with -9, is away, comes back, and takes in what has waited. Then what was made is looked for in
its store.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import numpy as np

from forestall.adapters.duckdb.vectors import DuckdbVectors
from forestall.adapters.https.client import Uplink
from forestall.adapters.https.contexts import Identity
from forestall.adapters.pki.authority import Authority
from forestall.adapters.vector_spool.spool import FileSpool
from forestall.model.samples import Float32Array
from forestall.ports.vectors import VectorBatch, VectorKind
from forestall.profiling.behaviour import NAMES, Behaviour
from forestall.replay.guest_trace import read_guest_trace
from forestall.service.forwarding import Forwarding, Gathering
from forestall.service.vector_frames import decode, encode

RECORDING = Path(__file__).parent / "recorded" / "guests.parquet"
STEP_SECONDS = 10
TICKS = os.sysconf("SC_CLK_TCK")


def recorded_vectors() -> list[Float32Array]:
    """Vectors (time, feature) of each guest of the recording, every ten seconds."""
    result = []
    for _, windows in groupby(read_guest_trace(RECORDING), key=lambda window: window.vm_id):
        behaviour, rows = Behaviour(), []
        for _, ten in groupby(windows, key=lambda window: window.at // STEP_SECONDS):
            behaviour.observe(ten)
            rows.append(behaviour.vectors(0).values[0])
        result.append(np.stack(rows))
    return result


class SimulatedHost:
    """A host with some guests."""

    def __init__(self, number: int, guests: int, folder: Path, uplink: Uplink, pool: list[Float32Array]) -> None:
        generator = np.random.default_rng(number)
        self.names = tuple(f"vm-{number:03d}-{guest:04d}" for guest in range(guests))
        self.source = [pool[guest % len(pool)] for guest in range(guests)]
        self.offset = generator.integers(0, len(pool[0]), guests)
        self.scale = generator.lognormal(0.0, 0.3, (guests, 1)).astype(np.float32)
        self.spool = FileSpool(folder / f"host-{number}", self.encoded, time.time)
        self.uplink = uplink
        self.gathering = Gathering(self.spool, time.monotonic)
        self.forwarding = Forwarding(self.spool, self, lambda line: None)
        self.made = self.bytes = self.json_bytes = 0
        self.lags: list[tuple[float, float]] = []

    def encoded(self, name: str, sequence: int, batch: VectorBatch) -> bytes:
        """As a frame; its size is counted."""
        body = encode(name, sequence, batch)
        self.bytes += len(body)
        return body

    def send(self, body: bytes) -> None:
        """Send, and note how old the oldest vector of the frame was when it had arrived."""
        self.uplink.send(body)
        now = time.time()
        self.lags.append((now, now - int(decode(body).batch.at.min())))

    def close(self) -> None:
        """Hang up."""
        self.uplink.close()

    def look(self, at: int, step: int) -> None:
        """Make a vector of each guest."""
        rows = [source[(offset + step) % len(source)] for source, offset in zip(self.source, self.offset, strict=True)]
        values = np.stack(rows) * self.scale
        batch = VectorBatch(VectorKind.PROFILE, NAMES, self.names, np.full(len(values), at, np.int64), values)
        if step % 30 == 0:
            told = [dict(zip(NAMES, row, strict=True)) for row in values[:20].astype(float).tolist()]
            plain = json.dumps([{"vm_id": name, "at": at, **row} for name, row in zip(self.names, told, strict=False)])
            self.json_bytes = len(plain) // len(told)
        self.made += len(values)
        self.gathering.add(batch)


class Controller:
    """The controller's process."""

    def __init__(self, folder: Path, pki: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = folder
        self.config = folder / "controller.toml"
        self.config.write_text(
            f'state_folder = "{folder}/state"\n[controller]\nlisten = "127.0.0.1:{self.port}"\n'
            f'certificate = "{pki}/issued/controller.pem"\nkey = "{pki}/issued/controller.key"\n'
            f'authority = "{pki}/ca.pem"\nrevoked = "{pki}/crl.pem"\n'
        )

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "forestall", "controller", "--config", str(self.config)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def kill(self) -> None:
        """End it with -9."""
        self.process.kill()
        self.process.wait()

    def cpu_seconds(self) -> float:
        """CPU time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_mib(self) -> float:
        """Most memory of the process so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=5_000)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=5.0, help="before the controller is killed")
    parser.add_argument("--away", type=float, default=10.0, help="minutes for which it is away")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="ingest-"))
    pki = folder / "pki"
    authority = Authority.make(pki, "bench", datetime.now(UTC))
    authority.issue("controller", datetime.now(UTC), addresses=("127.0.0.1",))
    controller = Controller(folder, pki)
    controller.start()
    pool, hosts = recorded_vectors(), []
    for number in range(chosen.hosts):
        name = f"host-{number}"
        authority.issue(name, datetime.now(UTC))
        identity = Identity(pki / f"issued/{name}.pem", pki / f"issued/{name}.key", pki / "ca.pem", pki / "crl.pem")
        url = f"https://127.0.0.1:{controller.port}"
        uplink = Uplink(url, identity)
        hosts.append(SimulatedHost(number, chosen.guests // chosen.hosts, folder / "spools", uplink, pool))
    for host in hosts:
        host.forwarding.start()
    began, step = time.time(), 0
    stop = threading.Event()

    def work() -> None:
        """Hosts look at different moments of the ten seconds."""
        nonlocal step
        while not stop.is_set():
            at = int(time.time()) // STEP_SECONDS * STEP_SECONDS
            for host in hosts:
                host.look(at, step)
                stop.wait(STEP_SECONDS / len(hosts) * 0.8)
            step += 1
            while int(time.time()) // STEP_SECONDS * STEP_SECONDS == at and not stop.is_set():
                stop.wait(0.05)

    maker = threading.Thread(target=work)
    maker.start()
    time.sleep(20)
    cpu, at = controller.cpu_seconds(), time.time()
    time.sleep(max(chosen.minutes * 60 - 20, 10))
    cores = (controller.cpu_seconds() - cpu) / (time.time() - at)
    peak = controller.peak_mib()
    steady = sorted(lag for host in hosts for _, lag in host.lags)
    print(f"{chosen.guests} guests of {chosen.hosts} hosts, a vector of {len(NAMES)} features each {STEP_SECONDS} s")
    print(f"controller: {100 * cores:.1f} % of a core, at most {peak:.0f} MiB")
    p50, p99 = np.percentile(steady, [50, 99])
    print(f"oldest vector of a frame when it was stored: P50 {p50:.1f} s, P99 {p99:.1f} s")
    controller.kill()
    killed_at = time.time()
    print(f"killed with -9, away for {chosen.away:g} min", flush=True)
    time.sleep(chosen.away * 60)
    waiting = sum(host.spool.waiting for host in hosts)
    size = sum(host.spool.waiting_bytes for host in hosts)
    print(f"{waiting} frames wait, {size / 1e6:.1f} MB", flush=True)
    controller.start()
    back_at = time.time()
    while max(host.spool.waiting for host in hosts) > 2:
        time.sleep(0.5)
        peak = controller.peak_mib()
    seconds = time.time() - back_at
    print(f"all of it stored {seconds:.0f} s after it was started again; at most {peak:.0f} MiB")
    stop.set()
    maker.join()
    for host in hosts:
        host.gathering.close()
    while any(host.spool.waiting for host in hosts):
        time.sleep(0.2)
    for host in hosts:
        host.forwarding.close()
    controller.kill()
    made = sum(host.made for host in hosts)
    sent, plain = sum(host.bytes for host in hosts) / made, np.mean([host.json_bytes for host in hosts])
    print(f"{sent:.0f} bytes a vector on the wire, {plain:.0f} as JSON: {plain / sent:.1f} times as much")
    store = DuckdbVectors(folder / "state/forestall.duckdb", time.time)
    batches = store.vectors(VectorKind.PROFILE, since=0, until=2**40)
    store.close()
    keys = [key for b in batches for key in zip(b.vm_ids, b.at.tolist(), strict=True)]
    lost, twice = made - len(set(keys)), len(keys) - len(set(keys))
    print(f"{made} vectors made from {began:.0f} on (killed at {killed_at:.0f}): {lost} lost, {twice} twice")
    size = (folder / "state/forestall.duckdb").stat().st_size
    print(f"{size / len(keys):.0f} bytes a vector in the store")


if __name__ == "__main__":
    main()
