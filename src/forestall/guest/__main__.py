"""``forestall-guest``: runs in a virtual machine, speaks to its host over virtio-serial. Stops at SIGTERM."""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import sys
import time
from pathlib import Path

from forestall.guest.agent import Agent
from forestall.guest.pace import CPU_BUDGET_RATIO, SHORT_SECONDS, Pace
from forestall.guest.ports import PORT_NAME, Line, find_port, open_port
from forestall.guest.wire import FrameReader

SHORTEST_REST, LONGEST_REST = 0.2, 2.0
HINT_FILE = Path("/run/forestall/hint.json")


def serve(agent: Agent, line: Line) -> None:
    """Look and say, listen and answer, while the port is there (OSError when it goes)."""
    reader, rest = FrameReader(), SHORTEST_REST
    poll = select.poll()
    due = time.monotonic()
    listened = False
    while True:
        poll.register(line.descriptor, select.POLLIN | (select.POLLOUT if line.waits else 0))
        ready = dict(poll.poll(max(0.0, due - time.monotonic()) * 1000)).get(line.descriptor, 0)
        if ready & (select.POLLHUP | select.POLLERR):  # always ready while nobody listens: wait, longer and longer
            if listened:
                line.forget()
                reader.clear()
                agent.rest()
            listened = False
            time.sleep(rest)
            rest, due = min(1.5 * rest, LONGEST_REST), time.monotonic()
            continue
        if not listened:
            listened, rest = True, SHORTEST_REST
            agent.greet()
        if ready & select.POLLOUT:
            line.flush()
        if ready & select.POLLIN:
            for frame in reader.feed(line.receive() or b""):
                agent.answer(frame)
        if (now := time.monotonic()) >= due:
            agent.look(now)
            due = agent.pace.next(due, time.monotonic())


def waited_port(name: str) -> Path:
    """The port, once there is one."""
    rest = SHORTEST_REST
    while True:
        if (device := find_port(name)) is not None:
            return device
        time.sleep(rest)
        rest = min(1.5 * rest, LONGEST_REST)


def main(arguments: list[str] | None = None) -> None:
    """Run until stopped; a port that goes away is waited for."""
    parser = argparse.ArgumentParser(prog="forestall-guest", description=__doc__)
    parser.add_argument("--port", default=PORT_NAME, help="name of the virtio-serial port (default: %(default)s)")
    parser.add_argument("--device", type=Path, help="device of the port, in place of its name")
    parser.add_argument("--window", type=float, default=SHORT_SECONDS, help="shortest window, seconds")
    parser.add_argument("--budget", type=float, default=CPU_BUDGET_RATIO, help="share of a core that it may use")
    parser.add_argument("--no-system-calls", action="store_true", help="do not count system calls by tracefs")
    parser.add_argument("--hint-file", type=Path, default=HINT_FILE, help="where the host's latest hint is kept")
    chosen = parser.parse_args(arguments)
    if not (0.02 <= chosen.window <= 1.0 and 0.0 < chosen.budget <= 1.0):
        parser.error("--window is between 0.02 and 1 s, --budget between 0 and 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        os.makedirs(chosen.hint_file.parent, exist_ok=True)
    except OSError as error:
        print(f"forestall-guest: hints are not kept: {error}", file=sys.stderr)
    while True:
        serve_port(chosen)


def serve_port(chosen: argparse.Namespace) -> None:
    """Serve the port, once it is there, until it goes; say so, also where somebody else has it."""
    try:
        line = Line(open_port(chosen.device or waited_port(chosen.port)))
        pace = Pace(chosen.window, chosen.budget)
        agent = Agent(line.send, chosen.hint_file, pace=pace, system_calls=not chosen.no_system_calls)
        gc.freeze()
        try:
            serve(agent, line)
        finally:
            agent.close()
            line.close()
    except OSError as error:
        print(f"forestall-guest: {error}; waiting for the port", file=sys.stderr)
        time.sleep(LONGEST_REST)


if __name__ == "__main__":
    main()
