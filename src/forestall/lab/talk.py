"""Traffic of hosts, standard library only: ``python talk.py MODE ...`` prints one line of JSON at its end.

``echo ADDRESS PORT SECONDS`` answers datagrams. ``probe ADDRESS PORT SECONDS EVERY_MS`` asks it, and tells how many
were answered, how long it took (ms) and the longest time without an answer. ``sink ADDRESS PORT SECONDS`` counts what
arrives by datagrams, and in the middle half of that time how fast; and their DSCP. ``pour ADDRESS PORT SECONDS
BYTES_PER_S`` sends datagrams at that rate.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable

SIZE, ALIKE_BYTES = 1_200, 42
PATIENCE_SECONDS = 0.002
SO_TIMESTAMPNS = 35
"""ALIKE_BYTES: headers of Ethernet, IPv4 and UDP, which meters and queues count too. SO_TIMESTAMPNS: socket(7)."""


def echo(address: str, port: int, seconds: float) -> dict[str, object]:
    """Answer whatever comes."""
    ends_at, count = time.monotonic() + seconds, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind((address, port))
        here.settimeout(0.1)
        while time.monotonic() < ends_at:
            try:
                data, there = here.recvfrom(2_000)
            except TimeoutError:
                continue
            here.sendto(data, there)
            count += 1
    return {"answered": count}


def probe(address: str, port: int, seconds: float, every_ms: float) -> dict[str, object]:
    """Ask again and again; each question has its number, and what is answered late counts."""
    asked: dict[int, float] = {}
    times: list[float] = []
    gap, last, number = 0.0, time.monotonic(), 0
    begins_at, gap_at = last, last
    ends_at = last + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.connect((address, port))
        here.settimeout(PATIENCE_SECONDS)
        next_at = last
        while (now := time.monotonic()) < ends_at:
            if now >= next_at:
                next_at = max(next_at + every_ms / 1e3, now)
                number += 1
                asked[number] = now
                with contextlib.suppress(OSError):
                    here.send(str(number).encode())
            try:
                answered = int(here.recv(2_000))
            except (TimeoutError, ConnectionError, ValueError):
                continue
            now = time.monotonic()
            if (at := asked.pop(answered, None)) is not None:
                times.append((now - at) * 1e3)
                if now - last > gap:
                    gap, gap_at = now - last, now
                last = now
    if time.monotonic() - last > gap:
        gap, gap_at = time.monotonic() - last, time.monotonic()
    times.sort()
    late = sum(1 for at in asked.values() if ends_at - at < 0.2)  # may be under way still
    return {
        "asked": number - late,
        "answered": len(times),
        "gap_ms": gap * 1e3,
        "gap_ended_after_s": gap_at - begins_at,
        "median_ms": times[len(times) // 2] if times else None,
        "p99_ms": times[len(times) * 99 // 100] if times else None,
    }


def sink(address: str, port: int, seconds: float) -> dict[str, object]:
    """Count what comes; from the first datagram on, the middle half of the time, by when the kernel got it."""
    begins_at = None
    count, middle = 0, 0
    first = last = 0.0
    classes: Counter[int] = Counter()
    ends_at = time.time() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        here.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        here.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        here.bind((address, port))
        here.settimeout(0.1)
        while time.time() < ends_at:
            try:
                data, about, _, _ = here.recvmsg(2_000, 128)
            except TimeoutError:
                continue
            told = {kind: value for _, kind, value in about}
            whole, nanoseconds = struct.unpack("qq", told[SO_TIMESTAMPNS])
            at = whole + nanoseconds / 1e9
            if begins_at is None:
                begins_at = at
                first, last = at + (ends_at - at) / 4, ends_at - (ends_at - at) / 4
            size = len(data) + ALIKE_BYTES
            count += size
            if first <= at < last:
                middle += size
            classes[told[socket.IP_TOS][0] >> 2] += 1
    rate = middle / (last - first) if begins_at is not None else 0.0
    return {"bytes": count, "bytes_per_s": rate, "dscp": dict(classes)}


def pour(address: str, port: int, seconds: float, bytes_per_s: float) -> dict[str, object]:
    """Send at a rate, of whole frames."""
    data, count = bytes(SIZE), 0
    begins_at = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.connect((address, port))
        while (passed := time.monotonic() - begins_at) < seconds:
            while count < passed * bytes_per_s:
                with contextlib.suppress(OSError):
                    here.send(data)
                count += SIZE + ALIKE_BYTES
            time.sleep(0.002)
    return {"bytes": count}


def main(words: list[str]) -> None:
    """Do as the command line says."""
    mode, address, port, seconds, *more = words
    modes: dict[str, Callable[..., dict[str, object]]] = {"echo": echo, "probe": probe, "sink": sink, "pour": pour}
    doing = modes[mode]
    print(json.dumps(doing(address, int(port), float(seconds), *map(float, more))))


if __name__ == "__main__":
    main(sys.argv[1:])
