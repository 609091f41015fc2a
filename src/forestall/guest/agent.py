"""The agent: looks at the kernel ten times a second, says what it saw, and does what the host asks for."""

from __future__ import annotations

import json
import os
import resource
import time
from math import inf
from pathlib import Path
from typing import Any, Callable

from forestall.guest import operations, wire
from forestall.guest.cpus import cpus_online, cpus_present, set_cpu_online
from forestall.guest.looks import LONG_FIELDS, SHORT_FIELDS, FastLook, SlowLook
from forestall.guest.pace import Pace
from forestall.guest.processes import Groups, Processes
from forestall.guest.system_calls import SystemCalls
from forestall.guest.wire import Kind, Window

LONG_SECONDS = 1.0
LONGEST_SECONDS = 5.0
"""A window that is longer says little of when things happened: it is not told."""
MAX_HINT_BYTES, MAX_ERROR = 8 * 1024, 500
Send = Callable[[bytes], bool]
Operations = tuple[tuple[int, int], ...]


class Agent:
    """What the agent knows between two looks.

    Parameters
    ----------
    send
        Takes the bytes of a frame; False if it could not be sent.
    hint_file
        Where the host's latest hint is kept for the programs of this machine; None: nowhere.
    root
        Root of ``/proc`` and ``/sys``.
    system_calls
        Whether to count system calls, where the machine can.
    """

    def __init__(
        self,
        send: Send,
        hint_file: Path | None = None,
        root: Path = Path("/"),
        pace: Pace | None = None,
        system_calls: bool = True,
    ) -> None:
        self._send, self._hint_file, self._root = send, hint_file, root
        self.pace = pace or Pace()
        self.session = int.from_bytes(os.urandom(4), "little")
        self._sequence = 0
        self._lost = 0
        self._fast, self._slow = FastLook(root), SlowLook(root)
        self._from_fields = operations.FromFields(SHORT_FIELDS)
        self._calls = counted_system_calls(root) if system_calls else None
        self._scans = {"processes": Processes(root), "groups": Groups(root)}
        self._looked_at = self._long_at = -inf
        self._own_cpu = time.process_time()
        self._latest: dict[str, float] = {}

    def greet(self) -> None:
        """Say who speaks, and what the numbers of a window are. A window is understood only by who has heard it."""
        self._say(Kind.HELLO, wire.as_json(self.about()))

    def about(self) -> dict[str, Any]:
        """Who speaks: what the numbers of a window are, and what this machine is."""
        uname = os.uname()
        return {
            "agent": wire.VERSION,
            "boot": _text(self._root / "proc/sys/kernel/random/boot_id"),
            "kernel": uname.release,
            "machine": uname.machine,
            "short": SHORT_FIELDS,
            "long": LONG_FIELDS,
            "operations": operations.OPERATIONS,
            "system_calls": self._calls is not None,
            "short_seconds": self.pace.short_seconds,
        }

    def look(self, now: float) -> None:
        """Look, and say what was seen since the last look; once a second what takes longer to look at.

        Parameters
        ----------
        now
            Seconds of the monotonic clock.
        """
        seconds, self._looked_at = now - self._looked_at, now
        long_due = now - self._long_at >= LONG_SECONDS - self.pace.short_seconds / 2
        values = self._fast.look(now, long_due)
        if seconds <= LONGEST_SECONDS:  # the first look, or one after a silence, has no window
            amounts = self._from_fields.amounts(values, seconds)
            if self._calls is not None and not self.pace.system_calls:
                self._calls.pause()
            elif self._calls is not None and self._fast.busy:
                amounts.update(self._calls.look())
            self._window(Kind.SHORT, now, seconds, values, operations.coded(amounts))
        if long_due:
            self._look_longer(now)

    def rest(self) -> None:
        """Nobody listens: what was seen until now is of no use."""
        self._looked_at = self._long_at = -inf
        if self._calls is not None:
            self._calls.pause()

    def answer(self, frame: wire.Frame) -> None:
        """Do what a frame from the host asks for, and say what came of it. What is not understood is an answer too."""
        if frame.kind == Kind.HINT:
            self._keep_hint(frame.payload)
        if frame.kind != Kind.REQUEST:
            return
        identity: int | None = None
        try:
            request = json.loads(frame.payload)
            identity = int(request["id"])
            reply = {"id": identity, "result": self.do(str(request.get("do")), request.get("with"))}
            payload = wire.as_json(reply)
            if len(payload) > wire.MAX_PAYLOAD_BYTES:
                raise ValueError("the answer is too long")
        except (ValueError, TypeError, KeyError, AttributeError, OSError, ArithmeticError, RecursionError) as error:
            payload = wire.as_json({"id": identity, "error": f"{type(error).__name__}: {error}"[:MAX_ERROR]})
        self._say(Kind.REPLY, payload)

    def do(self, what: str, argument: Any) -> Any:
        """Do one of the things that a host may ask for; what is unknown is an error (ValueError)."""
        known: dict[str, Callable[[], Any]] = {
            "ping": lambda: argument,
            "hello": self.greet,
            "state": self.state,
            "online": lambda: self._switch_cpu(int(argument), True),
            "offline": lambda: self._switch_cpu(int(argument), False),
        }
        if what not in known:
            raise ValueError(f"unknown request {what[:40]!r}")
        return known[what]()

    def state(self) -> dict[str, Any]:
        """How this machine stands now, for a person."""
        return {
            "uptime_seconds": float(_text(self._root / "proc/uptime").split()[0]),
            "cpus_online": cpus_online(self._root),
            "cpus_present": cpus_present(self._root),
            "short_seconds": self.pace.short_seconds,
            "values": {name: round(value, 4) for name, value in self._latest.items() if value == value},
            "lost": self._lost,
        }

    def close(self) -> None:
        """Stop counting, let go of files."""
        if self._calls is not None:
            self._calls.close()
        self._fast.close()
        self._slow.close()

    def _look_longer(self, now: float) -> None:
        seconds, self._long_at = now - self._long_at, now
        values, cpu = [*self._fast.longer(), *self._slow.look(now)], time.process_time()
        cores, self._own_cpu = (cpu - self._own_cpu) / seconds, cpu
        if seconds <= LONGEST_SECONDS:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
            values += [cores, memory, float(self.pace.late)]
            self._latest = dict(zip(LONG_FIELDS, values))
            self._window(Kind.LONG, now, seconds, values, ())
            self.pace.spend(cores)
        if self.pace.scans:
            busiest = {name: scan.look(now) for name, scan in self._scans.items()}
            if any(busiest.values()):
                self._say(Kind.PROCESSES, wire.as_json(busiest))

    def _window(self, kind: Kind, now: float, seconds: float, values: list[float], coded: Operations) -> None:
        self._say(kind, Window(round(now * 1e6), round(seconds * 1e6), self._lost, values, coded).pack())

    def _say(self, kind: Kind, payload: bytes) -> None:
        self._sequence += 1
        if not self._send(wire.encode(kind, self.session, self._sequence, payload)):
            self._lost += 1

    def _switch_cpu(self, number: int, online: bool) -> list[int]:
        set_cpu_online(number, online, self._root)
        return cpus_online(self._root)

    def _keep_hint(self, payload: bytes) -> None:
        """Keep the host's latest hint, whole or not at all."""
        if self._hint_file is None or len(payload) > MAX_HINT_BYTES:
            return
        try:
            hint = json.loads(payload)
            fresh = self._hint_file.with_suffix(".new")
            fresh.write_text(json.dumps(hint) + "\n")
            fresh.replace(self._hint_file)
        except (OSError, ValueError, RecursionError):
            return


def counted_system_calls(root: Path) -> SystemCalls | None:
    """Counting of system calls, where this machine allows it."""
    try:
        return SystemCalls(root / "sys/kernel/tracing")
    except OSError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
