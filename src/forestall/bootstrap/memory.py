"""``forestall replay memory``: which reader, which loop, which writers."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

from forestall import __version__
from forestall.bootstrap.process_memory import peak_memory_bytes
from forestall.replay.memory.moves_file import write_moves
from forestall.replay.memory.replay import MemoryReplaySettings, replay_memory
from forestall.replay.memory.result import MemoryHeader, MemoryResult
from forestall.replay.memory.trace import read_memory_trace
from forestall.replay.progress import terminal_progress
from forestall.replay.staging_folder import whole_folder


def memory_replay_to_folder(path: Path, out: Path, settings: MemoryReplaySettings, *, quiet: bool = False) -> str:
    """Replay staging on the first touches at ``path`` and write everything into ``out``, whole or not at all.

    Returns
    -------
    str
        What came of it, for a terminal.
    """
    started, notes, names = time.monotonic(), [], settings.names

    def note(line: str) -> None:
        notes.append(line)
        print(line, file=sys.stderr)

    trace = read_memory_trace(path, note)
    with whole_folder(out) as folder:
        with terminal_progress(quiet) as progress:
            outcome = replay_memory(trace, settings, progress)
        header = MemoryHeader(
            trace=trace.name,
            digest=trace.digest,
            vms=len(trace.vm_ids),
            groups=len(trace.groups),
            touches=len(trace),
            scored_from=outcome.first,
            staging_pages=settings.pages,
            policy=names[0],
            seed=settings.seed,
            version=__version__,
            command=shlex.join(["forestall", *sys.argv[1:]]),
            wall_seconds=time.monotonic() - started,
            peak_memory_bytes=peak_memory_bytes(),
            warnings=tuple(notes),
        )
        result = MemoryResult(header, outcome.points, outcome.in_time)
        write_moves(folder / "staging.parquet", trace, outcome.moves)
        _write_report(folder, result)
    from forestall.replay.report.memory_summary import memory_terminal

    return f"{memory_terminal(result)}\n{out}/report.html"


def _write_report(folder: Path, result: MemoryResult) -> None:
    from forestall.replay.report.memory_page import render_memory_report
    from forestall.replay.report.memory_summary import memory_summary

    (folder / "summary.json").write_text(json.dumps(memory_summary(result), indent=1) + "\n", "utf-8")
    render_memory_report(result, folder / "report.html")
