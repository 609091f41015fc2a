"""``forestall replay anomaly``: which reader, which detectors, which writers."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from forestall import __version__
from forestall.model.samples import FloatArray
from forestall.replay.anomaly.run import policies, score
from forestall.replay.anomaly.series import SeriesSet, read_series
from forestall.replay.progress import terminal_progress
from forestall.replay.scores.anomaly import AnomalyScores, score_anomalies
from forestall.replay.staging_folder import whole_folder


def anomaly_replay_to_folder(path: Path, out: Path, policy: str, seed: int, *, quiet: bool = False) -> str:
    """Score the series at ``path`` by each detector; write the first one's scores, and what all of them are worth.

    Returns
    -------
    str
        What came of it, for a terminal.
    """
    names, notes = policies(policy), []

    def note(line: str) -> None:
        notes.append(line)
        print(line, file=sys.stderr)

    series = read_series(path, note)
    results: dict[str, AnomalyScores | None] = {}
    seconds: dict[str, float] = {}
    with whole_folder(out) as folder:
        with terminal_progress(quiet) as progress:
            for name in names:
                started = time.monotonic()
                found = score(name, series, seed, progress)
                seconds[name] = time.monotonic() - started
                if name == names[0]:
                    series.write_scores(folder / "scores.parquet", found)
                results[name] = _scored(series, found)
        summary = {
            "trace": path.name,
            "series": len(series.names),
            "rows": len(series.at),
            "version": __version__,
            "seed": seed,
            "policy": names[0],
            "policies": {name: _plain(result) | {"seconds": seconds[name]} for name, result in results.items()},
            "warnings": notes,
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    return f"{_table(series, results, seconds)}{out}/scores.parquet"


def _scored(series: SeriesSet, found: FloatArray) -> AnomalyScores | None:
    labels = series.in_window
    if labels is None:
        return None
    return score_anomalies([(found[rows], labels[rows]) for rows in series.rows])


def _plain(scores: AnomalyScores | None) -> dict[str, float | None]:
    """Scores as JSON wants them: NaN is null."""
    values = asdict(scores) if scores else {}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def _table(series: SeriesSet, results: dict[str, AnomalyScores | None], seconds: dict[str, float]) -> str:
    table = Table("policy", title=f"{len(series.names)} series, {len(series.at)} rows", title_justify="left")
    for column in ("AUC-PR", "NAB at 1 % alarms", "windows found", "false alarms", "time"):
        table.add_column(column, justify="right")
    for name, s in results.items():
        spent = f"{seconds[name]:.1f} s"
        if s is None:
            table.add_row(name, "no labels", "", "", "", spent)
        else:
            share = f"{s.false_alarms:.2%}"
            table.add_row(name, f"{s.auc_pr:.3f}", f"{s.nab:.1f}", f"{s.found} of {s.windows}", share, spent)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
