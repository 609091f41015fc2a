"""Print the tables of ``docs/evaluation.md`` from the summaries that replays wrote.

Usage: python benchmarks/tables.py out/bitbrains/summary.json [more summaries, of the same traces or others]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SHARES = (0.05, 0.01, 0.005, 0.001)


def slack_rows(summary: dict[str, Any], resource: str) -> list[str]:
    """Slack of each policy at equal violations, with its 95 % interval over VMs."""
    rows = []
    for row in summary["slack_at_equal_violations"]:
        if row["resource"] != resource or all(at["slack"] is None for at in row["at"]):
            continue
        rows.append(f"| {row['policy']} | " + " | ".join(_cell(at) for at in row["at"]) + " |")
    return rows


def _cell(at: dict[str, float | None]) -> str:
    if at["slack"] is None:
        return "–"
    interval = f" ({at['low']:.2f}–{at['high']:.2f})" if at["low"] is not None else ""
    return f"{at['slack']:.2f}{interval}"


def promise_rows(summary: dict[str, Any], resource: str) -> list[str]:
    """What was asked for and what was measured, for Forestall."""
    return [
        f"| {100 * p['budget']:g} % | {100 * p['violation_share']:.3g} % | {100 * p['p95_vm_share']:.3g} % | "
        f"{100 * p['worst_vm_share']:.3g} % | {p['slack']:.3f} | {100 * p['severity']:.2g} % | "
        f"{_percent(p['reclaimed_share'])} | {p['changes_per_vm_hour']:.1f} |"
        for p in summary["calibration"]
        if p["resource"] == resource
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def risk_rows(summary: dict[str, Any], resource: str) -> list[str]:
    """Scores of stated risk for each horizon."""
    rows = []
    for risk in summary["risk"]:
        if risk["resource"] == resource:
            s, w = risk["scores"], risk["warnings"]
            rows.append(
                f"| {risk['horizon_seconds'] // 60} min | {100 * s['base_rate']:.2g} % | {s['brier_skill']:.2f} | "
                f"{s['ece']:.5f} | {s['auc']:.4f} | {s['auprc']:.3f} | {w['median_lead_seconds'] or 0:.0f} s | "
                f"{w['alarms_per_vm_day']:.2f} |"
            )
    return rows


def main(paths: list[str]) -> None:
    """Print all tables of all summaries.

    Several replays of one trace and lead make one table; what stands in two of them is taken from the first.
    """
    together: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for path in paths:
        summary = json.loads(Path(path).read_text("utf-8"))
        header = summary["header"]
        for resource in dict.fromkeys(row["resource"] for row in summary["slack_at_equal_violations"]):
            together.setdefault((header["trace"], header["lead_steps"], resource), []).append(summary)
    for (trace, lead, resource), summaries in together.items():
        print(f"\n### {trace}, {resource}, lead {lead}\n")
        by_policy: dict[str, str] = {}
        for row in (row for s in summaries for row in slack_rows(s, resource)):
            by_policy.setdefault(row.split(" | ")[0], row)
        _table(
            "asked | measured | P95 VM | worst VM | slack | severity | reclaimed | changes/VM-h",
            next((rows for s in summaries if (rows := promise_rows(s, resource))), []),
        )
        _table(
            "slack at | " + " | ".join(f"{100 * s:g} %" for s in SHARES),
            list(by_policy.values()),
        )
        _table(
            "horizon | base rate | Brier skill | ECE | AUC | AUPRC | lead time | alarms/VM-day",
            next((rows for s in summaries if (rows := risk_rows(s, resource))), []),
        )


def _table(head: str, rows: list[str]) -> None:
    if rows:
        print(f"| {head} |", "|---" * (head.count("|") + 1) + "|", *rows, "", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
