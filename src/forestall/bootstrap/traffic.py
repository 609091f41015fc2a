"""``forestall replay traffic``: which readers, which loop, which writers."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

from forestall import __version__
from forestall.bootstrap.process_memory import peak_memory_bytes
from forestall.fabric.network import Network
from forestall.replay.progress import terminal_progress
from forestall.replay.staging_folder import whole_folder
from forestall.replay.traffic.replay import TrafficOutcome, TrafficReplaySettings, replay_traffic
from forestall.replay.traffic.result import TrafficHeader, TrafficResult
from forestall.replay.traffic.routes_file import write_routes
from forestall.replay.traffic.topology_file import read_topology
from forestall.replay.traffic.trace import TrafficTrace, read_traffic_trace


def traffic_replay_to_folder(
    path: Path, topology: Path, out: Path, settings: TrafficReplaySettings, *, quiet: bool = False
) -> str:
    """Replay the choice of paths on the traffic at ``path`` and write everything into ``out``, whole or not at all.

    Returns
    -------
    str
        What came of it, for a terminal.
    """
    started, notes, _ = time.monotonic(), [], settings.names

    def note(line: str) -> None:
        notes.append(line)
        print(line, file=sys.stderr)

    network = read_topology(topology, note)
    trace = read_traffic_trace(path, network, note)
    with whole_folder(out) as folder:
        with terminal_progress(quiet) as progress:
            outcome = replay_traffic(trace, network, settings, progress)
        for source, target in outcome.apart[:1]:
            names = f"{network.nodes[source]!r} to {network.nodes[target]!r}"
            note(f"warning: {path}: nothing connects {len(outcome.apart)} pairs, first {names}: they are left out")
        write_routes(folder / "routes.parquet", trace, network, outcome)
        header = _header(trace, topology.name, network, settings, outcome, notes, time.monotonic() - started)
        result = TrafficResult(header, outcome.points, outcome.worst, outcome.links)
        _write_report(folder, result)
    from forestall.replay.report.traffic_summary import traffic_terminal

    return f"{traffic_terminal(result)}\n{out}/report.html"


def _header(
    trace: TrafficTrace,
    topology: str,
    network: Network,
    settings: TrafficReplaySettings,
    outcome: TrafficOutcome,
    notes: list[str],
    wall_seconds: float,
) -> TrafficHeader:
    return TrafficHeader(
        trace=trace.name,
        digest=trace.digest,
        topology=topology,
        topology_digest=network.digest,
        nodes=len(network.nodes),
        links=len(network),
        pairs=int((trace.traffic > 0).any(axis=0).sum()),
        intervals=len(trace),
        step_seconds=trace.step_seconds,
        start=trace.start,
        evaluate_from=trace.instant(outcome.first),
        end=trace.instant(len(trace)),
        policy=settings.names[0],
        longest_decision_seconds=outcome.longest_decision_seconds,
        seed=settings.seed,
        version=__version__,
        command=shlex.join(["forestall", *sys.argv[1:]]),
        wall_seconds=wall_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        warnings=tuple(notes),
    )


def _write_report(folder: Path, result: TrafficResult) -> None:
    from forestall.replay.report.traffic_page import render_traffic_report
    from forestall.replay.report.traffic_summary import traffic_summary

    (folder / "summary.json").write_text(json.dumps(traffic_summary(result), indent=1) + "\n", "utf-8")
    render_traffic_report(result, folder / "report.html")
