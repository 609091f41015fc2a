"""The process that looks into packets: nfstream on files of samples, what it recognised on standard output.

    python -I -m forestall.adapters.nfstream.dissect FD=ADDRESS,ADDRESS... ...

Each argument is a file descriptor of a sample, and the hardware addresses of its VM. The answer is a line of JSON: for
each sample a list of flows. The samples are read by a process that can do nothing else
(:mod:`~forestall.adapters.nfstream.confinement`).
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from nfstream import NFStreamer

from forestall.adapters.nfstream.capture import FILE_HEADER
from forestall.adapters.nfstream.confinement import alone

MEMORY_BYTES, CPU_SECONDS, WALL_SECONDS = 4 * 1024**3, 30, 25.0
MOST_ANSWER_BYTES = 2 * 1024 * 1024
LEAST_CONFIDENCE = 6
"""Of nDPI's marks the one of deep packet inspection; below it are guesses by port or address."""
TCP, UDP = 6, 17
PAYLOAD = 3
"""Way of counting bytes: what the transport protocol carries."""
CHANCE_SECONDS = 1
"""A connection is a new flow after so long: in the middle of a large answer nothing can be recognised."""
MOST_FLOWS, MOST_LETTERS = 200, 100
STREAMS = ("RTP", "SRTP")
FIELDS = ("protocol", "category", "serves", "transport", "port", "name", "bytes", "packets")


def flows(path: str, addresses: frozenset[str]) -> list[dict[str, Any]]:
    """What is recognised in a sample, the largest first; flows that look the same are one."""
    totals: dict[tuple[Any, ...], list[int]] = {}
    streamer = NFStreamer(
        source=path,
        n_meters=1,
        accounting_mode=PAYLOAD,
        active_timeout=CHANCE_SECONDS,
        idle_timeout=CHANCE_SECONDS,
    )
    for flow in streamer:
        sure = flow.application_confidence >= LEAST_CONFIDENCE and flow.application_name != "Unknown"
        by_source = _source_serves(flow, sure)
        total = totals.setdefault(_what(flow, sure, "src" if by_source else "dst", addresses), [0, 0])
        total[0] += flow.src2dst_bytes if by_source else flow.dst2src_bytes
        total[1] += flow.src2dst_packets if by_source else flow.dst2src_packets
    # Who answers nothing does not serve, whatever it is asked for.
    largest = sorted((item for item in totals.items() if item[1][0] > 0), key=lambda item: -item[1][0])[:MOST_FLOWS]
    return [dict(zip(FIELDS, (*what, *total), strict=True)) for what, total in largest]


def _what(flow: Any, sure: bool, server: str, addresses: frozenset[str]) -> tuple[Any, ...]:
    """Protocol, its category, whether the VM serves, transport, port of the server, and what was asked for by name."""
    protocol, category = (flow.application_name, flow.application_category_name) if sure else ("", "")
    return (
        protocol[:MOST_LETTERS],
        category[:MOST_LETTERS],
        getattr(flow, f"{server}_mac") in addresses,
        flow.protocol,
        getattr(flow, f"{server}_port"),
        flow.requested_server_name[:MOST_LETTERS],
    )


def _source_serves(flow: Any, sure: bool) -> bool:
    """Whether the source of a flow is the side that serves.

    The source is who sent the first packet that was heard, which in the middle of a connection says nothing: ports of
    servers are the lower ones, as a rule; a stream is served by who sends it.
    """
    if flow.protocol == UDP and sure and flow.application_name.split(".")[0] in STREAMS:
        return bool(flow.src2dst_bytes > flow.dst2src_bytes)
    return bool(flow.protocol in (TCP, UDP) and flow.src_port < flow.dst_port)


def _warm_up() -> None:
    """Read a file of no packets: what is loaded late only is out of reach later."""
    with os.fdopen(os.memfd_create("nothing"), "wb") as nothing:
        nothing.write(FILE_HEADER)
        nothing.flush()
        list(NFStreamer(source=f"/proc/self/fd/{nothing.fileno()}", n_meters=1))


def _answer(arguments: list[str]) -> None:
    """Say what is in the samples."""
    answers = []
    for argument in arguments:
        descriptor, _, addresses = argument.partition("=")
        answers.append(flows(f"/proc/self/fd/{int(descriptor)}", frozenset(addresses.split(","))))
    sys.stdout.write(json.dumps(answers))
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Answer; the exit code."""
    _warm_up()
    return alone(
        lambda: _answer(arguments),
        memory_bytes=MEMORY_BYTES,
        cpu_seconds=CPU_SECONDS,
        file_bytes=MOST_ANSWER_BYTES,
        wall_seconds=WALL_SECONDS,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
