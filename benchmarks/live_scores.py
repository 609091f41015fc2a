"""What came of ``live_policies.py``: how often guests were short, what was held for nothing, how often it was moved.

A guest is short in an interval in which it used all that it held below its limit (97 % of CPU, 90 % of memory): its
demand was above its allocation. Beside that stand the share of intervals in which its quota stopped it for more than
half of the time, and what the guest says itself: the share of intervals at whose end work waited (three pieces or
more), how long work took from its arrival, and for how long tasks stood still for want of memory. Usage::

    python benchmarks/live_scores.py out/live.parquet
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

AT_CAP_RATIO, THROTTLED_SHARE, WAITING_JOBS, CHANGE_RATIO = 0.97, 0.5, 3, 0.01
MEMORY_CAP_RATIO, STALLED_SHARE = 0.9, 0.01
SETTLED_SECONDS = 60.0


def read(path: Path) -> pd.DataFrame:
    """Every look, with what follows from it and the one before of the same guest in the same run."""
    looks = pd.read_parquet(path).sort_values(["run", "lab", "guest", "resource", "at"])
    by = looks.groupby(["run", "lab", "guest", "resource"], sort=False)
    seconds = by["at"].diff()
    looks["stalled_share"] = by["memory_stalled_seconds"].diff() / seconds
    looks["done_per_s"] = by["done"].diff() / seconds
    looks["moved"] = by["held"].diff().abs() > CHANGE_RATIO * by["held"].shift()
    below = looks["held"] < 0.99 * looks["limit"]
    ratio = looks["resource"].map({"cpu": AT_CAP_RATIO, "memory": MEMORY_CAP_RATIO})
    looks["short"] = below & (looks["used"] >= ratio * looks["held"])
    looks["stopped"] = below & (looks["throttled"] > THROTTLED_SHARE) & (looks["resource"] == "cpu")
    looks["waits"] = looks["waiting"] >= WAITING_JOBS
    looks["short_and_waits"] = looks["short"] & looks["waits"]
    looks["seconds"] = seconds
    settled = looks["at"] - looks.groupby("run")["at"].transform("min") > SETTLED_SECONDS
    return looks[looks["used"].notna() & settled & (seconds < 60)]


def scores(looks: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """A row for each group of looks."""

    def row(part: pd.DataFrame) -> pd.Series:
        hours = part["seconds"].sum() / 3600
        return pd.Series(
            {
                "intervals": len(part),
                "short %": 100 * part["short"].mean(),
                "stopped %": 100 * part["stopped"].mean(),
                "waits %": 100 * part["waits"].mean(),
                "short, waits %": 100 * part["short_and_waits"].mean(),
                "stalled %": 100 * (part["stalled_share"] > STALLED_SHARE).mean(),
                "P95 latency s": part["latency_seconds"].quantile(0.95),
                "slack": part["held"].sum() / part["used"].sum() - 1,
                "of limit %": 100 * part["held"].sum() / part["limit"].sum(),
                "moves/VM-h": part["moved"].sum() / hours,
            }
        )

    return looks.groupby(by).apply(row, include_groups=False)


def main(path: Path) -> None:
    """Print the tables."""
    looks = read(path)
    pd.set_option("display.width", 160, "display.max_columns", 20, "display.max_rows", 200)
    for by in (["resource", "policy"], ["resource", "run", "policy"], ["resource", "policy", "guest"]):
        print(f"by {', '.join(by)}\n{scores(looks, by).round(2)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
