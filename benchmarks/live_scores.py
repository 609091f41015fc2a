"""What came of ``live_policies.py``: how often guests were short, what was held for nothing, how often it was moved.

A guest is short in an interval in which it used all that it held below its limit (97 % of CPU, 90 % of memory): its
demand was above its allocation. Beside that stand the share of intervals in which its quota stopped it for more than
half of the time, and what the guest says itself: the share of intervals at whose end work waited (three pieces or
more), how long work took from its arrival, and for how long tasks stood still for want of memory. The 95 % intervals
are bootstrapped over minutes of a guest, for what follows upon each other is not independent. Usage::

    python benchmarks/live_scores.py out/live.parquet [another ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

AT_CAP_RATIO, THROTTLED_SHARE, WAITING_JOBS, CHANGE_RATIO = 0.97, 0.5, 3, 0.01
MEMORY_CAP_RATIO, STALLED_SHARE = 0.9, 0.01
OURS = "forestall"
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


def resampled(looks: pd.DataFrame) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """What might as well have come out, bootstrapped, of what counts most: by resource and policy."""
    block = (looks["at"] // BLOCK_SECONDS).rename("block")
    by = ["resource", "policy", "run", "guest"]
    sums = looks.assign(per_cent=0.01).groupby([*by, block])[["short", "stopped", "per_cent", "held", "used"]].sum()

    def ratios(part: pd.DataFrame, over: str, under: str, seed: int) -> np.ndarray:
        pair = (part[over].to_numpy(float), part[under].to_numpy(float))
        found = bootstrap(pair, _ratio, paired=True, vectorized=True, method="percentile", n_resamples=2000, rng=seed)
        return np.asarray(found.bootstrap_distribution)

    return {
        key: {
            "short %": ratios(part, "short", "per_cent", seed),
            "stopped %": ratios(part, "stopped", "per_cent", seed),
            "slack": ratios(part, "held", "used", seed) - 1.0,
        }
        for seed, (key, part) in enumerate(sums.groupby(by[:2]))
    }


def _ratio(over: np.ndarray, under: np.ndarray, axis: int = -1) -> np.ndarray:
    ratio: np.ndarray = over.sum(axis=axis) / under.sum(axis=axis)
    return ratio


def between(values: np.ndarray) -> str:
    """Where 95 % of the values lie."""
    low, high = np.quantile(values, (0.025, 0.975))
    return f"{low:.3g} to {high:.3g}"


def main(paths: Sequence[Path]) -> None:
    """Print the tables; of several files together, their runs numbered on."""
    parts: list[pd.DataFrame] = []
    for path in paths:
        part = read(path)
        before = max((other["run"].max() for other in parts), default=0)
        parts.append(part.assign(run=part["run"].where(part["run"] == 0, part["run"] + before)))
    looks = pd.concat(parts)
    pd.set_option("display.width", 160, "display.max_columns", 20, "display.max_rows", 200)
    for by in (["resource", "policy"], ["resource", "run", "policy"], ["resource", "policy", "guest"]):
        print(f"by {', '.join(by)}\n{scores(looks, by).round(2)}\n")
    found = resampled(looks[looks["policy"] != "none"])
    table = {key: {name: between(values) for name, values in row.items()} for key, row in found.items()}
    print(f"95 % intervals\n{pd.DataFrame.from_dict(table, orient='index')}\n")
    less = {
        (resource, policy): {name: between(found[resource, OURS][name] - values) for name, values in row.items()}
        for (resource, policy), row in found.items()
        if policy != OURS
    }
    print(f"95 % intervals of {OURS} less another\n{pd.DataFrame.from_dict(less, orient='index')}")


if __name__ == "__main__":
    main([Path(path) for path in sys.argv[1:]])
