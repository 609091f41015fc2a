"""A web guest and a batch guest on the same cores, under the regimes of burst_live.py: what each costs and gains.

    python benchmarks/burst_guests.py [--rounds 3] [--seconds 30] [--rate 6]

Two guests of a lab of its own (root; see docs/lab.md). An open-loop client in the lab's network asks the web guest for
pages of its shop, in quiet and busy stretches; latency counts from when a request should have been sent. The batch
guest compresses as fast as it can; what it gets done is counted as the CPU time of its vCPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from burst_live import REGIMES, arrivals

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.linux.cgroups import ControlGroups
from forestall.adapters.linux.proc import Processes
from forestall.burst.place import Place
from forestall.lab.plan import Pace
from forestall.lab.site import Lab
from forestall.ports.cores import Guest, Part
from forestall.service.burst_messages import Roster, roster_line

SETTLE_SECONDS = 15.0
CLIENT = """
import asyncio, json, sys, time
address, instants = sys.argv[1], json.loads(sys.stdin.read())
async def one(k, start, found):
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(address, 80), 20)
        writer.write(b"GET /shop HTTP/1.0\\r\\nHost: lab\\r\\n\\r\\n")
        await asyncio.wait_for(reader.read(), 20)
        writer.close()
        found[k] = (time.monotonic() - start - instants[k]) * 1000
    except (OSError, asyncio.TimeoutError):
        pass
async def main():
    found, start, tasks = [None] * len(instants), time.monotonic() + 0.1, []
    for k, at in enumerate(instants):
        await asyncio.sleep(max(start + at - time.monotonic(), 0))
        tasks.append(asyncio.create_task(one(k, start, found)))
    await asyncio.gather(*tasks)
    print(json.dumps(found))
asyncio.run(main())
"""


class Vm:
    """A guest's process and its control group."""

    def __init__(self, pid: int) -> None:
        self.pid, self.groups = pid, Processes().control_groups(pid)
        folder = ControlGroups().folder("cpu", self.groups)
        assert folder is not None
        self.folder = folder

    def cpu_seconds(self) -> float:
        """CPU time of its vCPUs."""
        return sum(vcpu.run_seconds for vcpu in Processes().vcpu_times(self.pid).values())

    def quota(self, cores: float | None, period_us: int = 20_000) -> None:
        """Limit it; None: no limit."""
        if (self.folder / "cpu.max").exists():
            text = "max" if cores is None else str(round(cores * period_us))
            (self.folder / "cpu.max").write_text(f"{text} {period_us}")
            return
        (self.folder / "cpu.cfs_quota_us").write_text("-1")
        if cores is not None:
            (self.folder / "cpu.cfs_period_us").write_text(str(period_us))
            (self.folder / "cpu.cfs_quota_us").write_text(str(round(cores * period_us)))

    def pin(self, cpus: list[int]) -> None:
        """Let its threads run on these CPUs only."""
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(task.name), cpus)


def drive(lab: Lab, address: str, instants: np.ndarray) -> np.ndarray:
    """Ask for pages when they are due; the latency of each, milliseconds."""
    command = lab.inside(sys.executable, "-S", "-c", CLIENT, address)
    done = subprocess.run(command, input=json.dumps(instants.tolist()), capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout), np.float64)


def one(lab: Lab, regime: str, web: Vm, batch: Vm, address: str, instants: np.ndarray) -> dict[str, float]:
    """One regime, once."""
    cpus = sorted(os.sched_getaffinity(0))
    half = len(cpus) // 2
    batch.quota(len(cpus) / 2 if regime == "quota" else None)
    web.pin(cpus[:half] if regime == "partition" else cpus)
    batch.pin(cpus[half:] if regime == "partition" else cpus)
    os.kill(batch.pid, signal.SIGSTOP if regime == "alone" else signal.SIGCONT)
    with tempfile.TemporaryDirectory() as state:
        loop = None
        if regime == "forestall":
            command = [sys.executable, "-m", "forestall", "burst", "--state-folder", state]
            loop = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert loop.stdin is not None
            lender = Place(Guest("web", "1", web.pid, Part.LENDER), float(len(cpus)))
            borrower = Place(Guest("batch", "1", batch.pid, Part.BORROWER), float(len(cpus)))
            loop.stdin.write(roster_line(Roster((lender, borrower))))
            loop.stdin.flush()
            drive(lab, address, instants[instants < SETTLE_SECONDS])
            assert loop.stdout is not None
            os.set_blocking(loop.stdout.fileno(), False)
            loop.stdout.read()
        began, before = time.monotonic(), (web.cpu_seconds(), batch.cpu_seconds())
        latency = drive(lab, address, instants)
        seconds = time.monotonic() - began
        cores = [(vm.cpu_seconds() - b) / seconds for vm, b in zip((web, batch), before, strict=True)]
        result = {"web": cores[0], "batch": cores[1], "lost": float(np.isnan(latency).sum())}
        result |= dict(zip(("p50", "p95", "p99"), np.nanquantile(latency, [0.5, 0.95, 0.99]), strict=True))
        if loop is not None:
            assert loop.stdin is not None
            assert loop.stdout is not None
            statuses = [json.loads(line) for line in (loop.stdout.read() or b"").splitlines()[:-1]]
            result["lent"] = float(np.mean([s["loan"]["lent"] for s in statuses]))
            wakes = [s["wake_us"] for s in statuses if s["wake_us"] is not None]
            result["wake_us"] = float(np.mean(wakes)) if wakes else float("nan")
            loop.stdin.close()
            loop.wait()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=6.0)
    asked = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {regime: [] for regime in REGIMES}
    with Lab(Path(tempfile.mkdtemp(prefix="fs-burst-", dir="/run")), name=f"fs-burst-{os.getpid()}") as lab:
        lab.up(("web", "batch"), pace=Pace(day_seconds=1e6))
        lab.wait(150)
        from forestall.adapters.libvirt.host import LibvirtHost

        host = LibvirtHost(lab.uri, clock=SystemClock())
        host.observe()
        web, batch = (Vm(host.processes()[lab.domain(guest)].pid) for guest in ("web", "batch"))
        host.close()
        for guest, level in (("web", 0.0), ("batch", 1.0)):
            with lab.link(guest) as link:
                link.ask({"load": level}, 60)
        address = next(plan.address for plan in lab._plans() if plan.name == "web")
        for number in range(asked.rounds):
            instants = arrivals(np.random.default_rng(number), asked.seconds, asked.rate)
            for regime in map(str, np.roll(REGIMES, number)):
                found = one(lab, regime, web, batch, address, instants)
                results[regime].append(found)
                print(f"{regime:10}", ", ".join(f"{key} {value:.2f}" for key, value in found.items()), flush=True)
        os.kill(batch.pid, signal.SIGCONT)
    print()
    cores = len(os.sched_getaffinity(0))
    for regime, found in results.items():
        p50, p95, p99 = (np.median([f[key] for f in found]) for key in ("p50", "p95", "p99"))
        used, gained = (np.mean([f[key] for f in found]) for key in ("web", "batch"))
        print(
            f"{regime:10} P50 {p50:6.0f}  P95 {p95:6.0f}  P99 {p99:6.0f} ms; batch {gained:.2f} cores, "
            f"{gained / (cores - used):.0%} of what the web guest left idle"
        )


if __name__ == "__main__":
    main()
