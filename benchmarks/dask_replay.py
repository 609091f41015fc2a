"""A replay on a Dask cluster of this machine beside the same one in one process: the same bytes, and how much sooner.

    python benchmarks/dask_replay.py [--vms 1000] [--days 30] [--workers 2]

A scheduler and workers in processes of their own, a thread each. The one process is held to one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "replay"))

from test_dask import started

FILES = ("allocations.parquet", "risk.parquet")


def replayed(trace: Path, out: Path, *more: str, cores: int | None = None) -> float:
    """Replay in a process of its own; seconds."""
    command = [sys.executable, "-m", "forestall", "replay", "demand", str(trace), "--out", str(out), "--quiet", *more]
    hold = (lambda: os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[:cores]))) if cores else None
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, preexec_fn=hold)
    return time.monotonic() - began


def main() -> None:
    """Measure, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forestall-dask-") as name, ExitStack() as running:
        folder = Path(name)
        trace = folder / "trace.parquet"
        make = [sys.executable, "-m", "forestall", "trace", "generate", "--vms", str(given.vms), "--days"]
        subprocess.run([*make, str(given.days), "--out", str(trace)], check=True, stdout=subprocess.DEVNULL)
        _, address = running.enter_context(
            started("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        )
        for _ in range(given.workers):
            worker = ("dask_worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny")
            running.enter_context(started(*worker, "--local-directory", str(folder)))
        there = replayed(trace, folder / "there", "--dask", address)
        here = replayed(trace, folder / "here", cores=1)
        same = all((folder / "here" / file).read_bytes() == (folder / "there" / file).read_bytes() for file in FILES)
    told = {"vms": given.vms, "days": given.days, "workers": given.workers, "same_bytes": same}
    print(json.dumps({**told, "one_process_s": round(here), "dask_s": round(there), "times": round(here / there, 2)}))


if __name__ == "__main__":
    main()
