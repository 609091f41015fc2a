"""Memory staged for real guests: what first touches cost with and without, and that nothing a guest has is ever lost.

    python benchmarks/staged_guests.py touches [--rounds 8]
    python benchmarks/staged_guests.py native [--rounds 8]
    python benchmarks/staged_guests.py churn [--minutes 30]

Needs root and what ``forestall lab`` needs; nothing else should run on the machine. ``touches`` has a guest touch
memory that a balloon has taken and given back, with and without shadowing in turn; ``native`` does the same with a
process that is not emulated. ``churn`` lets two guests take, write, check and leave memory at random, while the daemon
stages for them with a horizon of half a second and moves their memory by balloon and virtio-mem, and while they are
paused, resized, rebooted, killed and started anew, and the daemon is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from forestall.adapters.linux.guest_pages import MemfdPages
from forestall.lab.plan import Pace
from forestall.lab.site import Lab
from forestall.model.errors import ForestallError

PATIENCE_SECONDS = 180.0
GROUP, TOUCHED_MIB, SMALL_MIB, CHURN_SECONDS, CHURN_MIB = "guests", 160, 150, 20.0, 120
SETTINGS = """\
step_seconds = 1
cold_seconds = 8
violation_budget = 0.1
resources = [{resources}]
[safety]
lease_seconds = 20
stale_seconds = 60
crashes = 1000
[staging]
keep_free_bytes = 0
horizon_seconds = {horizon}
least_precision = {precision}
"""


NATIVE = """
import mmap, os, time
import numpy as np
memory = os.memfd_create("pc.ram")
os.ftruncate(memory, 64 << 20)
ram = np.frombuffer(mmap.mmap(memory, 64 << 20), np.uint8)
print("ready", flush=True)
input()
began = time.perf_counter()
ram[::4096] = 1
print(time.perf_counter() - began)
"""


class Rig:
    """A lab, and a daemon beside it."""

    def __init__(self, guests: tuple[str, ...], resources: str, horizon: float, precision: float = 0.5) -> None:
        self.guests, self.folder = guests, Path(tempfile.mkdtemp(prefix="fs-staged-", dir="/run"))
        self.lab = Lab(self.folder / "lab", name=f"fs-staged-{os.getpid()}")
        self.daemon: subprocess.Popen[bytes] | None = None
        self._settings = SETTINGS.format(resources=resources, horizon=horizon, precision=precision)

    def boot(self) -> None:
        """Start the guests that do not run."""
        self.lab.up(self.guests, pace=Pace(day_seconds=1e6))
        self.lab.wait(PATIENCE_SECONDS)

    def begin(self, *, shadowing: bool) -> None:
        """Start the daemon."""
        text = f'connect = "{self.lab.uri}"\nstate_folder = "{self.folder}/state"\n{self._settings}'
        (self.folder / "forestall.toml").write_text(text)
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "forestall", "run", "--mode", "enforce", *self._options()]
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + PATIENCE_SECONDS
        while not (self.folder / "state/forestall.sock").exists() and time.monotonic() < until:
            time.sleep(0.2)
        names = [view["group"] for view in self.ask("trust-group", "list")]
        if GROUP not in names:
            self.ask("trust-group", "create", GROUP)
            self.ask("trust-group", "add", GROUP, *(self.lab.domain(guest) for guest in self.guests))
        self.ask("trust-group", "enable-shadowing" if shadowing else "disable-shadowing", GROUP)

    def stats(self) -> dict[str, Any]:
        """What was staged so far."""
        found: dict[str, Any] = self.ask("trust-group", "stats")
        return found

    def ask(self, *command: str) -> Any:
        """What a command prints as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "forestall", *command, "--json", *self._options()],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the daemon."""
        if self.daemon is not None:
            self.daemon.send_signal(number)
            self.daemon.wait(PATIENCE_SECONDS)
            self.daemon = None

    def close(self) -> None:
        """End everything."""
        try:
            self.end()
        finally:
            self.lab.down()
            shutil.rmtree(self.folder)

    def _options(self) -> list[str]:
        return ["--config", str(self.folder / "forestall.toml")]


def run_in(lab: Lab, guest: str, *words: str) -> str:
    """What one of the lab's programs says in a guest."""
    with lab.link(guest) as link:
        answer = link.ask({"run": ["python3", "-S", "-m", *words]}, 90.0)
    output: str = answer["run"]["output"]
    return output


def touches(rounds: int) -> dict[str, Any]:
    """First touches of memory that a balloon has taken and given back, with and without shadowing in turn."""
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    rig = Rig(("spare",), '"cpu"', horizon=15.0)
    try:
        rig.boot()
        rig.begin(shadowing=False)
        for number in range(2 * rounds):
            shadowing = number % 2 == 0
            for mib in (SMALL_MIB, 384):
                _virsh(rig, "setmem", rig.lab.domain("spare"), f"{mib}M", "--live")
                time.sleep(6.0)
            rig.ask("trust-group", "enable-shadowing" if shadowing else "disable-shadowing", GROUP)
            time.sleep(3.0)
            said = run_in(rig.lab, "spare", "forestall.lab.guest.touches", str(TOUCHED_MIB))
            found[shadowing].append(json.loads(said) | (_counts(rig) if shadowing else {}))
            print(shadowing, found[shadowing][-1], file=sys.stderr, flush=True)
        staged = rig.stats()
    finally:
        rig.close()
    keys = json.loads(said).keys()
    pairs = list(zip(found[True], found[False], strict=True))
    return {
        "touched_mib": TOUCHED_MIB,
        "rounds": rounds,
        "with": {key: statistics.median(run[key] for run in found[True]) for key in keys},
        "without": {key: statistics.median(run[key] for run in found[False]) for key in keys},
        "ratio_of_pairs": {key: statistics.median(a[key] / b[key] for a, b in pairs) for key in keys},
        "less_in_pairs": sum(a["seconds"] < b["seconds"] for a, b in pairs),
        "last": found[True][-1],
        "core_ratio": staged["core_ratio"],
    }


def native(rounds: int) -> dict[str, Any]:
    """First touches of a process that is not emulated: what of its memory was staged, beside what was not."""
    took: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(2 * rounds):
        with subprocess.Popen([sys.executable, "-c", NATIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            process.stdout.readline()
            pages = MemfdPages(process.pid)
            if number % 2 == 0:
                pages.populate(0, pages.pages)
            took["without" if number % 2 else "with"].append(float(process.communicate(b"\n")[0]))
            pages.close()
    pairs = zip(took["with"], took["without"], strict=True)
    return {
        "us_a_page": {name: 1e6 * statistics.median(seconds) / pages.pages for name, seconds in took.items()},
        "ratio_of_pairs": statistics.median(a / b for a, b in pairs),
    }


def churn(minutes: float, seed: int = 0) -> dict[str, Any]:
    """Guests that check their memory, while everything happens to them."""
    draw, happened, checked = random.Random(seed), dict[str, int](), list[str]()
    # Staged whatever it is worth, and given back at once: as many chances as possible to do harm.
    rig = Rig(("spare", "database"), '"cpu", "memory"', horizon=0.5, precision=0.0)
    over = threading.Event()

    def work(guest: str, number: int) -> None:
        while not over.is_set():
            try:
                seed = str(number + random.randrange(1 << 30))
                words = ("forestall.lab.guest.churn", f"{CHURN_SECONDS:g}", str(CHURN_MIB), seed)
                checked.append(run_in(rig.lab, guest, *words).strip())
            except (ForestallError, KeyError):  # it was rebooted or killed meanwhile
                over.wait(1.0)

    try:
        rig.boot()
        rig.begin(shadowing=True)
        workers = [threading.Thread(target=work, args=(guest, n)) for n, guest in enumerate(rig.guests)]
        for worker in workers:
            worker.start()
        until, totals = time.monotonic() + 60.0 * minutes, dict[str, int]()
        while time.monotonic() < until:
            time.sleep(draw.uniform(3.0, 9.0))
            guest, act = draw.choice(rig.guests), draw.choice(ACTS)
            totals = _add(totals, act(rig, guest, draw))
            happened[act.__name__.strip("_")] = happened.get(act.__name__.strip("_"), 0) + 1
            if any("LOST" in said for said in checked):
                break
        over.set()
        for worker in workers:
            worker.join()
        totals = _add(totals, _counts(rig))
    finally:
        over.set()
        rig.close()
    lost = [said for said in checked if "LOST" in said or "Error" in said]
    pages = sum(int(said.split()[1]) for said in checked if said.startswith("checked"))
    return {
        "minutes": minutes,
        "happened": happened,
        "pages_checked": pages,
        "runs": len(checked),
        "lost": lost,
    } | totals


def _counts(rig: Rig) -> dict[str, int]:
    """What was staged and given back since the daemon started."""
    group = rig.stats()["groups"].get(GROUP, {})
    return {name: group.get(name, 0) for name in ("hits", "misses", "staged", "returned", "stops")}


def _add(totals: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {name: totals.get(name, 0) + more.get(name, 0) for name in {*totals, *more}}


def _virsh(rig: Rig, *words: str) -> None:
    subprocess.run(["virsh", "-q", "-c", rig.lab.uri, *words], capture_output=True, check=False, timeout=60)


def _pause(rig: Rig, guest: str, draw: random.Random) -> dict[str, int]:
    _virsh(rig, "suspend", rig.lab.domain(guest))
    time.sleep(draw.uniform(0.1, 3.0))
    _virsh(rig, "resume", rig.lab.domain(guest))
    return {}


def _balloon(rig: Rig, guest: str, draw: random.Random) -> dict[str, int]:
    for mib in (draw.randint(260, 384), 384):
        _virsh(rig, "setmem", rig.lab.domain(guest), f"{mib}M", "--live")
        time.sleep(draw.uniform(0.2, 3.0))
    return {}


def _virtio_mem(rig: Rig, guest: str, draw: random.Random) -> dict[str, int]:
    domain = rig.lab.domain("database")
    for mib in (draw.randrange(0, 256, 2), 0):
        _virsh(rig, "update-memory-device", domain, "--alias", "virtiomem0", "--requested-size", f"{mib}M")
        time.sleep(draw.uniform(0.2, 3.0))
    return {}


def _reboot(rig: Rig, guest: str, draw: random.Random) -> dict[str, int]:
    with rig.lab.link(guest) as link:
        link.send({"reboot": True})
    time.sleep(3.0)
    rig.boot()
    return {}


def _kill(rig: Rig, guest: str, draw: random.Random) -> dict[str, int]:
    _virsh(rig, "destroy", rig.lab.domain(guest))
    time.sleep(draw.uniform(0.0, 2.0))
    rig.boot()
    return {}


def _kill_the_daemon(rig: Rig, guest: str, draw: random.Random) -> dict[str, int]:
    counts = _counts(rig)
    rig.end(signal.SIGKILL)
    time.sleep(draw.uniform(0.0, 3.0))
    rig.begin(shadowing=True)
    return counts


ACTS = (_pause, _pause, _balloon, _balloon, _balloon, _virtio_mem, _virtio_mem, _reboot, _kill, _kill_the_daemon)


def main() -> None:
    """Run what is asked for, and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("touches", "native", "churn"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=30.0)
    asked = parser.parse_args()
    run = {"touches": lambda: touches(asked.rounds), "native": lambda: native(asked.rounds)}
    print(json.dumps(run.get(asked.what, lambda: churn(asked.minutes))(), indent=1))


if __name__ == "__main__":
    main()
