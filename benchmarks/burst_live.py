"""A service and a batch job on the same cores, under four regimes in turn: what each costs and what each gains.

    python benchmarks/burst_live.py [--rounds 5] [--seconds 20] [--rate 120] [--regimes alone ...] [--out FILE]

The service answers requests of an open-loop client (Poisson arrivals, quiet and busy stretches in turn; latency counts
from when a request should have been sent), each a few milliseconds of work. The batch job counts what it gets done, a
busy thread for each core. Both are processes in control groups of their own, as VMs are:

alone       the batch job is stopped
partition   half of the cores belong to the service, the others to the batch job
quota       the batch job may use as much time as half of the cores have, wherever it is
shares      both may use everything, with equal weight
idle        both may use everything, the batch job in the idle class; no loop
forestall   `forestall burst` lends what it does not reserve

Rounds alternate the order. Needs root; two cores are enough. The processes measure themselves; the client's own CPU
time is in no group.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forestall.burst.place import Place
from forestall.ports.cores import Guest, Part
from forestall.service.burst_messages import Roster, roster_line

REGIMES = ("alone", "partition", "quota", "shares", "idle", "forestall")
TREE = Path("/sys/fs/cgroup")
WORK = 9000
"""Steps of a request; about two milliseconds here."""
SETTLE_SECONDS = 12.0
VERBOSE = bool(os.environ.get("VERBOSE"))

SERVICE = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); server.bind(sys.argv[1])
for _ in range(int(sys.argv[3]) - 1):
    if os.fork() == 0:
        break
while True:
    request, client = server.recvfrom(64)
    total = 0
    for k in range(int(sys.argv[2])):
        total += k * k % 7
    server.sendto(request, client)
"""
BATCH = """
import os, sys, mmap, struct
counts = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 8 * int(sys.argv[2]))
mine = 0
for n in range(1, int(sys.argv[2])):
    if os.fork() == 0:
        mine = n
        break
done = 0
while True:
    for _ in range(1000):
        pass
    done += 1
    struct.pack_into("q", counts, 8 * mine, done)
"""


@dataclass
class Result:
    """What one regime came to in one round; times in milliseconds, cores as means.

    ``wake_us`` is the mean time that the service waited for a core each time that it got one.
    """

    regime: str
    latency: np.ndarray
    batch: float
    service_cores: float
    batch_cores: float
    lent: float
    wake_us: float
    loop_share: float


class Group:
    """A control group of version 1 or 2 with a process and its children."""

    def __init__(self, name: str) -> None:
        trees = [TREE / tree for tree in ("cpu", "cpuacct", "cpuset") if (TREE / tree / "tasks").exists()]
        self.first = not trees
        self.folders = [tree / name for tree in trees] or [TREE / name]
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
            if folder.parent.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (folder / file).write_text((folder.parent / file).read_text())
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, program: str, *arguments: str) -> None:
        """Start a program in it."""

        def enter() -> None:
            for folder in self.folders:
                (folder / "cgroup.procs").write_text("0")

        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", program, *arguments], preexec_fn=enter, start_new_session=True
        )

    def quota(self, cores: float | None, period_us: int = 20_000) -> None:
        """Limit it; None: no limit."""
        folder = self.folders[0]
        if (folder / "cpu.max").exists():
            (folder / "cpu.max").write_text(f"{'max' if cores is None else round(cores * period_us)} {period_us}")
            return
        (folder / "cpu.cfs_quota_us").write_text("-1")
        (folder / "cpu.cfs_period_us").write_text(str(period_us))
        if cores is not None:
            (folder / "cpu.cfs_quota_us").write_text(str(round(cores * period_us)))

    def idle(self, idle: bool) -> None:
        """Put it into the idle class, or take it out; out of it its weight is the usual one."""
        (self.folders[0] / "cpu.idle").write_text(str(int(idle)))

    def pin(self, cpus: list[int]) -> None:
        """Let it run on these CPUs only."""
        file = next(folder / "cpuset.cpus" for folder in self.folders if (folder / "cpuset.cpus").exists())
        file.write_text(",".join(map(str, cpus)))

    def send(self, number: int) -> None:
        """Send a signal to all of its processes."""
        if self.process is not None:
            os.killpg(self.process.pid, number)

    def cpu_seconds(self) -> float:
        """CPU time used in it."""
        for folder in self.folders:
            if (folder / "cpuacct.usage").exists():
                return int((folder / "cpuacct.usage").read_text()) / 1e9
        return int((self.folders[0] / "cpu.stat").read_text().split()[1]) / 1e6

    def waits(self) -> tuple[float, int]:
        """Seconds that its threads waited for a core, and how often they got one."""
        waited, runs = 0, 0
        for process in (self.folders[0] / "cgroup.procs").read_text().split():
            _, wait_ns, times = Path(f"/proc/{process}/schedstat").read_text().split()
            waited, runs = waited + int(wait_ns), runs + int(times)
        return waited / 1e9, runs

    def end(self) -> None:
        """End its processes and remove it."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
                self.send(signal.SIGKILL)
            self.process.wait()
        for folder in self.folders:
            until = time.monotonic() + 5
            while time.monotonic() < until:
                with suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.05)


def arrivals(rng: np.random.Generator, seconds: float, rate: float) -> np.ndarray:
    """Instants of requests: quiet and busy stretches of some tenths of a second, busy ones four times as busy."""
    at, busy, instants = 0.0, False, []
    while at < seconds:
        lasts = rng.uniform(0.1, 0.6)
        own = rate * (4.0 if busy else 0.5)
        count = rng.poisson(own * lasts)
        instants.append(np.sort(at + lasts * rng.random(count)))
        at, busy = at + lasts, not busy
    return np.concatenate(instants)


def drive(path: str, instants: np.ndarray) -> np.ndarray:
    """Send requests when they are due; the latency of each, milliseconds."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.bind(f"{folder}/client")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        latency, sent, received, start = np.full(len(instants), np.nan), 0, 0, time.monotonic() + 0.05
        while received < len(instants):
            now = time.monotonic() - start
            while sent < len(instants) and instants[sent] <= now:
                client.sendto(str(sent).encode(), path)
                sent += 1
            wait = instants[sent] - (time.monotonic() - start) if sent < len(instants) else 1.0
            client.settimeout(max(min(wait, 1.0), 1e-5))
            try:
                k = int(client.recv(64))
            except (TimeoutError, BlockingIOError):
                if sent == len(instants) and time.monotonic() - start > instants[-1] + 10:
                    break
                continue
            latency[k] = (time.monotonic() - start - instants[k]) * 1000
            received += 1
    return latency


@contextmanager
def lending(service: Group, batch: Group, cores: float) -> Iterator[subprocess.Popen[bytes]]:
    """`forestall burst` with the service as lender and the batch job as borrower."""
    assert service.process is not None
    assert batch.process is not None
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "forestall", "burst", "--state-folder", state, "--cores", str(cores)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as loop:
            assert loop.stdin is not None
            lender = Place(Guest("service", "1", service.process.pid, Part.LENDER), cores)
            borrower = Place(Guest("batch", "1", batch.process.pid, Part.BORROWER), cores)
            loop.stdin.write(roster_line(Roster((lender, borrower))))
            loop.stdin.flush()
            try:
                yield loop
            finally:
                loop.stdin.close()


def one(regime: str, service: Group, batch: Group, counts: Path, path: str, instants: np.ndarray) -> Result:
    """One regime, once."""
    cores = float(len(os.sched_getaffinity(0)))
    batch.quota(cores / 2 if regime == "quota" else None)
    batch.idle(regime == "idle")
    cpus = sorted(os.sched_getaffinity(0))
    half = len(cpus) // 2
    service.pin(cpus[:half] if regime == "partition" else cpus)
    batch.pin(cpus[half:] if regime == "partition" else cpus)
    batch.send(signal.SIGSTOP if regime == "alone" else signal.SIGCONT)
    statuses: list[dict] = []
    if regime == "forestall":
        with lending(service, batch, cores) as loop:
            drive(path, instants[instants < SETTLE_SECONDS])
            assert loop.stdout is not None
            os.set_blocking(loop.stdout.fileno(), False)
            loop.stdout.read()
            result = measured(regime, service, batch, counts, path, instants)
            statuses = [json.loads(line) for line in (loop.stdout.read() or b"").splitlines()[:-1]]
    else:
        drive(path, instants[instants < 2.0])
        result = measured(regime, service, batch, counts, path, instants)
    if statuses:
        if VERBOSE:
            for s in statuses:
                print(s["loan"], s["misses"], s["timing"], s["wake_us"], s["refusals"])
        result.lent = float(np.mean([s["loan"]["lent"] for s in statuses]))
        result.loop_share = statuses[-1]["timing"]["cpu_share"]
    return result


def measured(regime: str, service: Group, batch: Group, counts: Path, path: str, instants: np.ndarray) -> Result:
    """Drive the service, and see what everybody used meanwhile."""
    began, before, waits = time.monotonic(), (service.cpu_seconds(), batch.cpu_seconds(), done(counts)), service.waits()
    latency = drive(path, instants)
    seconds = time.monotonic() - began
    after = (service.cpu_seconds(), batch.cpu_seconds(), done(counts))
    waited, runs = (b - a for a, b in zip(waits, service.waits(), strict=True))
    used = [(b - a) / seconds for a, b in zip(before, after, strict=True)]
    nothing = float("nan")
    return Result(regime, latency, used[2], used[0], used[1], nothing, 1e6 * waited / runs, nothing)


def done(counts: Path) -> float:
    """What the batch job has done, thousands of steps."""
    return float(np.frombuffer(counts.read_bytes(), np.int64).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=60.0)
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    cores = len(os.sched_getaffinity(0))
    results: list[Result] = []
    service, batch = Group(f"forestall-bench-service-{os.getpid()}"), Group(f"forestall-bench-batch-{os.getpid()}")
    with tempfile.TemporaryDirectory() as folder:
        counts, path = Path(folder) / "counts", f"{folder}/service"
        counts.write_bytes(b"\0" * 8 * cores)
        try:
            service.start(SERVICE, path, str(WORK), str(cores))
            batch.start(BATCH, str(counts), str(cores))
            time.sleep(1.0)
            for number in range(asked.rounds):
                instants = arrivals(np.random.default_rng(number), asked.seconds, asked.rate)
                for regime in np.roll(asked.regimes, number):
                    results.append(one(str(regime), service, batch, counts, path, instants))
                    show(results[-1])
        finally:
            service.end()
            batch.end()
    table(results, cores)
    if asked.out:
        rows = [{**r.__dict__, "latency": np.nanquantile(r.latency, [0.5, 0.95, 0.99]).tolist()} for r in results]
        asked.out.write_text(json.dumps(rows, indent=1))


def show(r: Result) -> None:
    """One line for one regime and round."""
    p50, p95, p99 = np.nanquantile(r.latency, [0.5, 0.95, 0.99])
    print(
        f"{r.regime:10} P50 {p50:6.2f} P95 {p95:6.2f} P99 {p99:7.2f} ms, lost {np.isnan(r.latency).sum()}, batch "
        f"{r.batch:8.0f}/s, cores {r.service_cores:.2f} + {r.batch_cores:.2f}, lent {r.lent:.2f}, wake {r.wake_us:.0f} "
        f"µs, loop {r.loop_share:.3f}",
        flush=True,
    )


def table(results: list[Result], cores: int) -> None:
    """Means over rounds; latency quantiles are medians over rounds."""
    print()
    for regime in dict.fromkeys(r.regime for r in results):
        mine = [r for r in results if r.regime == regime]
        q = np.median([np.nanquantile(r.latency, [0.5, 0.95, 0.99]) for r in mine], axis=0)
        names = ("batch", "batch_cores", "service_cores", "wake_us")
        work, batch, used, wake = (np.mean([getattr(r, k) for r in mine]) for k in names)
        print(
            f"{regime:10} P50 {q[0]:6.2f}  P95 {q[1]:6.2f}  P99 {q[2]:7.2f} ms; batch {work:8.0f}/s, {batch:.2f} cores,"
            f" {batch / (cores - used):.0%} of what the service left idle; wake to run {wake:.0f} µs"
        )


if __name__ == "__main__":
    main()
