"""The reporter of a guest: a JSON line every so often over virtio-serial, and commands from there, a line each."""

from __future__ import annotations

import ctypes
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall.guest.cpus import cpus_online, cpus_present, set_cpu_online
from forestall.guest.ports import find_port
from forestall.lab.guest import curve, facts

PORT_NAME = "org.forestall.lab.0"
TICK_SECONDS = 1.0
MAX_LINE_BYTES = 64 * 1024
STARTED_FILE = Path("/run/lab/started")
MOST_BY_HAND = 10.0
RUN_SECONDS, MAX_OUTPUT_BYTES = 60.0, 16 * 1024
LEVEL_FILE, WORK_FILE = Path("/run/lab/level"), Path("/run/lab/work.json")
HOLDER = "import sys,time\nb=bytearray(int(sys.argv[1]))\nfor i in range(0,len(b),4096): b[i]=1\ntime.sleep(1e9)"
OUT_OF_MEMORY_FIRST = "1000"
RESTART = 0x01234567


class Reporter:
    """What the guest knows and was told; ``line`` is a report, ``obey`` carries out a command."""

    def __init__(self) -> None:
        self.arguments = facts.kernel_arguments()
        self.by_hand: float | None = None
        self.holder: subprocess.Popen[bytes] | None = None
        self.held_bytes = 0
        # One that starts again must not switch on what was switched off meanwhile.
        self.known_cpus: set[int] = set(cpus_present()) if STARTED_FILE.exists() else set()
        STARTED_FILE.touch()
        self.outside_work: dict[str, Any] = {}
        self.sequence = 0
        self.report_seconds = float(self.arguments["report"])

    def level(self) -> float:
        """Load level that is in force: 0 to 1, more by hand."""
        if self.by_hand is not None:
            return self.by_hand
        day_seconds, epoch = float(self.arguments["day"]), float(self.arguments["epoch"])
        level = curve.level(self.arguments["role"], max(0.0, time.time() - epoch), day_seconds)
        return level * float(self.arguments["load"])

    def report(self) -> dict[str, Any]:
        """Everything that is said of the guest at once."""
        self.sequence += 1
        return {
            "sequence": self.sequence,
            "guest": self.arguments["guest"],
            "role": self.arguments["role"],
            "at": time.time(),
            "uptime_seconds": float(Path("/proc/uptime").read_text().split()[0]),
            "cpu_seconds": facts.cpu_seconds(),
            "cpus_online": cpus_online(),
            "cpus_present": cpus_present(),
            "memory_bytes": facts.memory_bytes(),
            "held_bytes": self.held_bytes if self.holder and self.holder.poll() is None else 0,
            "disk_bytes": facts.disk_bytes(),
            "network_bytes": facts.network_bytes(),
            "pressure": facts.pressure(),
            "load": {"level": self.level(), "by_hand": self.by_hand is not None},
            "work": self.work(),
        }

    def work(self) -> dict[str, Any]:
        """What was done, how long the last of it took, and what waits: as told from outside, or by the worker."""
        if self.outside_work:
            return self.outside_work
        try:
            work: dict[str, Any] = json.loads(WORK_FILE.read_text())
        except (OSError, ValueError):
            return {"done": 0, "latency_seconds": None, "queue": 0, "backlog": False}
        return work

    def tick(self) -> None:
        """Tell the worker the level, and switch CPUs on that have just been plugged in."""
        fresh = LEVEL_FILE.with_suffix(".new")
        fresh.write_text(f"{self.level():.6f}")
        fresh.replace(LEVEL_FILE)
        present = set(cpus_present())
        for number in present - self.known_cpus - set(cpus_online()):
            set_cpu_online(number, True)
        self.known_cpus = present

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out every part of a command that is known; an unknown one is an error (ValueError)."""
        known: dict[str, Callable[[Any], object]] = {
            "load": self.set_load,
            "memory": self.hold,
            "online": lambda number: self.switch_cpu(int(number), True),
            "offline": lambda number: self.switch_cpu(int(number), False),
            "work": self.take_work,
            "reboot": lambda _: reboot(),
            "run": run,
            "ping": lambda value: value,
        }
        unknown = set(command) - set(known) - {"id"}
        if unknown:
            raise ValueError(f"unknown command {', '.join(sorted(unknown))}")
        return {key: known[key](value) for key, value in command.items() if key != "id"}

    def set_load(self, level: float | None) -> None:
        """Set the load by hand (0 to 10 times the full work), or back to the day curve (None)."""
        self.by_hand = None if level is None else min(MOST_BY_HAND, max(0.0, float(level)))
        self.tick()

    def hold(self, amount_bytes: int | None) -> None:
        """Hold that much memory, every page touched, until told otherwise; the first to go when memory is out."""
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()
            self.holder, self.held_bytes = None, 0
        if amount_bytes:
            self.holder = subprocess.Popen([sys.executable, "-S", "-c", HOLDER, str(int(amount_bytes))])
            Path(f"/proc/{self.holder.pid}/oom_score_adj").write_text(OUT_OF_MEMORY_FIRST)
            self.held_bytes = int(amount_bytes)

    def switch_cpu(self, number: int, online: bool) -> list[int]:
        """Switch a CPU on or off; returns those that work then."""
        set_cpu_online(number, online)
        return cpus_online()

    def take_work(self, work: dict[str, Any]) -> None:
        """Keep what the visitors outside say of the work of this guest."""
        self.outside_work = work


def run(command: list[str]) -> dict[str, Any]:
    """Run a program to its end: its exit code and the end of what it said."""
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=RUN_SECONDS
    )
    return {"code": ended.returncode, "output": ended.stdout[-MAX_OUTPUT_BYTES:].decode(errors="replace")}


def reboot() -> None:
    """Start the guest anew at once, its disk in order."""
    os.sync()
    ctypes.CDLL(None).reboot(RESTART)


def answer(reporter: Reporter, line: bytes) -> dict[str, Any] | None:
    """Carry out a line; the answer, or None where nobody asked for one."""
    identity = None
    try:
        command = json.loads(line)
        identity = command.get("id")
        result = reporter.obey(command)
    except (ValueError, TypeError, AttributeError, OSError, subprocess.SubprocessError) as error:
        return {"answer": identity, "error": f"{type(error).__name__}: {error}"}
    return None if identity is None else {"answer": identity, "result": result}


def send(port: int, message: dict[str, Any]) -> None:
    """Send a line; where nobody listens, or not fast enough, it is lost."""
    try:
        os.write(port, json.dumps(message, separators=(",", ":")).encode() + b"\n")
    except BlockingIOError:
        return


def receive(port: int, buffer: bytearray) -> list[bytes] | None:
    """Whole lines that have come; None when nobody is at the other end. Lines that are too long are dropped."""
    try:
        chunk = os.read(port, MAX_LINE_BYTES)
    except BlockingIOError:
        return []
    if not chunk:
        return None
    buffer += chunk
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest if len(rest) <= MAX_LINE_BYTES else b""
    return [line for line in lines if line.strip()]


def main() -> None:
    """Report until the guest stops."""
    reporter, buffer = Reporter(), bytearray()
    while (device := find_port(PORT_NAME)) is None:
        time.sleep(0.05)
    port = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    due = report_due = time.monotonic()
    while True:
        if (left := due - time.monotonic()) <= 0:
            reporter.tick()
            if due >= report_due:
                send(port, reporter.report())
                report_due = due + reporter.report_seconds
            due = max(due + TICK_SECONDS, time.monotonic() + TICK_SECONDS / 2)
            continue
        if not select.select([port], [], [], left)[0]:
            continue
        lines = receive(port, buffer)
        if lines is None:  # always readable while nobody listens: wait instead
            time.sleep(min(left, 0.2))
        for line in lines or ():
            if (message := answer(reporter, line)) is not None:
                send(port, message)


if __name__ == "__main__":
    main()
