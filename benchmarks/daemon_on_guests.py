"""What the daemon costs a host with real guests: CPU and memory, while it observes six of the lab every second.

Needs root and what the lab needs. Usage::

    python benchmarks/daemon_on_guests.py --minutes 5
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from forestall.lab.plan import GUESTS
from forestall.lab.site import Lab

FORESTALL = (sys.executable, "-c", "import sys; from forestall.cli import main; sys.exit(main())")
SETTLED_SECONDS = 20.0


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process, now and at most; proc_pid_status(5)."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return now, most


def measure(lab: Lab, folder: Path, arguments: argparse.Namespace) -> None:
    """Let the daemon run, and print what it used."""
    settings = folder / "forestall.toml"
    settings.write_text(f'connect = "{lab.uri}"\nstate_folder = "{folder}/state"\nstep_seconds = {arguments.step}\n')
    command = (*FORESTALL, "run", "--config", str(settings), "--mode", arguments.mode)
    with (folder / "log").open("ab") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        time.sleep(SETTLED_SECONDS)
        used, began = cpu_seconds(daemon.pid), time.monotonic()
        time.sleep(60.0 * arguments.minutes)
        share = (cpu_seconds(daemon.pid) - used) / (time.monotonic() - began)
        now, most = memory_bytes(daemon.pid)
    finally:
        daemon.terminate()
        code = daemon.wait(120.0)
    size = sum(path.stat().st_size for path in (folder / "state").rglob("*") if path.is_file())
    print(f"{arguments.mode}, {len(lab.guests)} guests, a cycle every {arguments.step} s, {arguments.minutes:g} min")
    mib = [f"{amount / 2**20:.1f} MiB" for amount in (now, most, size)]
    print(f"CPU {share:.4f} cores, memory {mib[0]} (at most {mib[1]}), state folder {mib[2]}")
    print(f"exit code {code}; it said:\n{(folder / 'log').read_text()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--step", type=int, default=1, help="length of a cycle, seconds")
    parser.add_argument("--mode", default="observe")
    parser.add_argument("--guests", type=int, default=len(GUESTS))
    with tempfile.TemporaryDirectory(prefix="fs-cost-", dir="/run") as place, Lab(Path(place) / "lab") as site:
        site.up(parser.parse_args().guests)
        site.wait(300.0)
        measure(site, Path(place), parser.parse_args())
