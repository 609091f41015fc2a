"""What the agent in a guest costs, how often it speaks, and how long a question and its answer take.

    python benchmarks/guest_agent.py [--seconds 60] [--guests web,idle] [--native]

In guests of a lab of its own (root; see docs/lab.md), and, with --native alone, as a process of this machine at the end
of a pseudo terminal: what it costs in a guest with KVM, where nothing is translated. CPU is the agent's own, from its
kernel (schedstat); with the budget lifted it looks ten times a second whatever that costs.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path
from uuid import uuid4

from forestall.adapters.guest_channel.channels import GuestChannels
from forestall.guest.bundle import write_bundle
from forestall.guest.wire import FrameReader, Kind
from forestall.lab.plan import Pace
from forestall.lab.site import Lab

SETTLE_SECONDS = 15.0
LOOK = (
    "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2> /dev/null | grep -q '^python3 .*/forestall-guest'"
    " && cat $p/schedstat && grep VmHWM $p/status; done; cat /proc/uptime"
)


def native(seconds: float, budget: float) -> None:
    """As a process of this machine."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    reader, kinds = FrameReader(), []
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "agent")
        command = [sys.executable, "-sSE", f"{folder}/agent", "--device", os.ttyname(theirs), "--budget", str(budget)]
        process = subprocess.Popen([*command, "--no-system-calls", "--hint-file", f"{folder}/hint"])
        began = cpu = 0.0
        until = time.monotonic() + SETTLE_SECONDS + seconds
        while (now := time.monotonic()) < until:
            if not began and now > until - seconds:
                began, cpu = now, spent(process.pid)
                kinds.clear()
            if select.select([ours], [], [], 0.2)[0]:
                kinds += [frame.kind for frame in reader.feed(os.read(ours, 65536))]
        used = (spent(process.pid) - cpu) / (time.monotonic() - began)
        memory = Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        process.terminate()
        process.wait()
    rate = kinds.count(Kind.SHORT) / seconds
    print(
        f"native, budget {budget:.0%}: {rate:.1f} windows/s, {100 * used:.2f} % of a core, {int(memory) / 1024:.1f} MiB"
    )


def spent(pid: int) -> float:
    """CPU seconds of a process."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def in_guests(guests: tuple[str, ...], seconds: float) -> None:
    """In guests of a lab."""
    with Lab(Path("/run") / f"bench-{uuid4().hex[:6]}") as lab:
        lab.up(guests, pace=Pace(report_seconds=5.0))
        lab.wait(300)
        channels = GuestChannels()
        channels.follow({guest: str(lab.place.profile(guest)) for guest in guests})
        time.sleep(SETTLE_SECONDS)
        before = {guest: inside(lab, guest) for guest in guests}
        channels.windows()
        counted = dict.fromkeys(guests, 0)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.5)
            for window in channels.windows():
                counted[window.vm_id] += not window.long
        after = {guest: inside(lab, guest) for guest in guests}
        for guest, state in channels.states().items():
            used = (after[guest][0] - before[guest][0]) / (after[guest][2] - before[guest][2])
            trips = " and ".join(f"{1000 * trip:.1f} ms" for trip in state.round_trip_seconds)
            print(
                f"{guest}, {lab.accelerator()}: {counted[guest] / seconds:.1f} windows/s, {100 * used:.2f} % of a core,"
                f" {after[guest][1] / 1024:.1f} MiB, round trip P50 and P99 {trips}, lost {state.lost},"
                f" dropped {dict(state.dropped)}"
            )
        channels.close()


def inside(lab: Lab, guest: str) -> tuple[float, int, float]:
    """CPU seconds of the agent, its most memory (KiB), and the guest's uptime."""
    with lab.link(guest) as link:
        lines = link.ask({"run": ["sh", "-c", LOOK]}, 60)["run"]["output"].splitlines()
    return int(lines[0].split()[0]) / 1e9, int(lines[1].split()[1]), float(lines[2].split()[0])


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--guests", default="web,idle")
    parser.add_argument("--native", action="store_true")
    chosen = parser.parse_args()
    native(chosen.seconds, 1.0)
    native(chosen.seconds, 0.01)
    if not chosen.native:
        in_guests(tuple(chosen.guests.split(",")), chosen.seconds)


if __name__ == "__main__":
    main()
