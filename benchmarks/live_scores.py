"""What came of ``live_policies.py``: how often guests were short, what was held for nothing, how often it was moved.

A guest is short in an interval in which it used all that it held below its limit (97 % of CPU, 90 % of memory): its
demand was above its allocation. Beside that stand the share of intervals in which its quota stopped it for more than
half of the time, and what the guest says itself: the share of intervals at whose end work waited (three pieces or
more), how long work took from its arrival, and for how long tasks stood still for want of memory. The 95 % intervals
are bootstrapped over minutes of a guest, for what follows upon each other is not independent. Usage::

    python benchmarks/live_scores.py out/live.parquet
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

AT_CAP_RATIO, THROTTLED_SHARE, WAITING_JOBS, CHANGE_RATIO = 0.97, 0.5, 3, 0.01
MEMORY_CAP_RATIO, STALLED_SHARE = 0.9, 0.01
SETTLED_SECONDS, BLOCK_SECONDS = 60.0, 60.0


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


def intervals(looks: pd.DataFrame) -> pd.DataFrame:
    """95 % intervals of what counts most, a row for each resource and policy."""
    block = (looks["at"] // BLOCK_SECONDS).rename("block")
    by = ["resource", "policy", "run", "guest"]
    sums = looks.assign(per_cent=0.01).groupby([*by, block])[["short", "stopped", "per_cent", "held", "used"]].sum()

    def between(part: pd.DataFrame, over: str, under: str, offset: float) -> str:
        pair = (part[over].to_numpy(float), part[under].to_numpy(float))
        found = bootstrap(pair, _ratio, paired=True, vectorized=True, method="percentile", n_resamples=2000, rng=0)
        low, high = found.confidence_interval
        return f"{low - offset:.3g} - {high - offset:.3g}"

    rows = {
        key: {
            "short %": between(part, "short", "per_cent", 0.0),
            "stopped %": between(part, "stopped", "per_cent", 0.0),
            "slack": between(part, "held", "used", 1.0),
        }
        for key, part in sums.groupby(by[:2])
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _ratio(over: np.ndarray, under: np.ndarray, axis: int = -1) -> np.ndarray:
    ratio: np.ndarray = over.sum(axis=axis) / under.sum(axis=axis)
    return ratio


def main(path: Path) -> None:
    """Print the tables."""
    looks = read(path)
    pd.set_option("display.width", 160, "display.max_columns", 20, "display.max_rows", 200)
    for by in (["resource", "policy"], ["resource", "run", "policy"], ["resource", "policy", "guest"]):
        print(f"by {', '.join(by)}\n{scores(looks, by).round(2)}\n")
    print(f"95 % intervals\n{intervals(looks[looks['policy'] != 'none'])}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
