"""How rightly what runs in the guests of a lab is named, by traffic, by behaviour and by both: confusion tables.

    forestall lab up --guests web:8099,redis:7000,database,batch,idle,postgres:5499,stream:8554 --load 0.6
    forestall run --config /run/forestall-lab/forestall.toml &
    python benchmarks/applications.py --config /run/forestall-lab/forestall.toml --seconds 900

Asks the daemon every ten seconds what it takes each guest for. Rows: shares of the times that a guest was taken for
something; a dash is the share of those at which nothing was known. The first minutes are left out: evidence gathers.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from forestall.cli.status import asked
from forestall.model.applications import CLAIMS
from forestall.settings import load_configuration

ASK_SECONDS, SETTLE_SECONDS = 10.0, 180.0
SOURCES = ("traffic", "behaviour", "together")


def main(config: Path, seconds: float, settle_seconds: float) -> None:
    """Ask, then print a table for each source."""
    folder = load_configuration(config).state_folder
    counts: dict[str, dict[str, Counter[str]]] = {source: {} for source in SOURCES}
    time.sleep(settle_seconds)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for row in asked(folder, "applications"):
            role = row["vm_id"].rpartition("-")[2]
            for source in SOURCES:
                claims = row[source]
                found = max(claims, key=claims.get) if claims else "-"
                counts[source].setdefault(role, Counter())[found] += 1
        time.sleep(ASK_SECONDS)
    columns = (*CLAIMS, "-")
    for source, by_role in counts.items():
        print(f"\nby {source}\n{'':10}" + "".join(f"{column:>10}" for column in columns) + f"{'times':>7}")
        for role, found in sorted(by_role.items()):
            total = found.total()
            print(f"{role:10}" + "".join(f"{found[column] / total:10.2f}" for column in columns) + f"{total:7}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--settle", type=float, default=SETTLE_SECONDS)
    given = parser.parse_args()
    main(given.config, given.seconds, given.settle)
