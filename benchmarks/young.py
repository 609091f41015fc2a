"""How VMs fare by their age: the first hour, the first day, the first week, from nothing.

    python benchmarks/young.py TRACE RESOURCE FROM [--days 7] [--budget 0.01]

The trace is cut to the days after FROM, so that no VM has a past; each VM's age counts from its first sample. Printed
are the share of intervals in violation and the slack, at the budget asked for: with the models that come with
Forestall, without them (networks are trained on the trace's own past alone), and without any recurrent network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from pinball import cut

from forestall.bootstrap.models import recurrent_settings
from forestall.model.resources import Resource
from forestall.replay.demand_replay import ReplaySettings, replay_demand
from forestall.replay.trace_reader import read_trace

AGES_HOURS = {"0 to 1 h": (0, 1), "1 to 24 h": (1, 24), "1 to 7 days": (24, 168)}
VARIANTS = {"with the models that come along": (), "without them": ("pretrained",), "without a network": ("recurrent",)}


def main() -> None:
    """Run it and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("trace", type=Path)
    options.add_argument("resource", type=Resource)
    options.add_argument("start", type=int)
    options.add_argument("--days", type=int, default=7)
    options.add_argument("--budget", type=float, default=0.01)
    given = options.parse_args()
    whole = read_trace(given.trace, None, lambda line: None)
    first, last = whole.grid.index(given.start), whole.grid.index(given.start + given.days * 86_400)
    trace = cut(whole, first, last)
    limit = trace.known_limit(given.resource)
    demand = np.minimum(trace.demand[given.resource], np.where(np.isnan(limit), np.inf, limit))
    seen = np.isfinite(demand)
    born = np.where(seen.any(axis=0), seen.argmax(axis=0), len(demand))
    age = (np.arange(len(demand))[:, None] - born) * trace.grid.step_seconds / 3_600
    print(f"{given.trace.name} {given.resource}, budget {given.budget:.1%}: violations / slack")
    for name, without in VARIANTS.items():
        settings = ReplaySettings(
            resources=(given.resource,),
            budgets=(given.budget,),
            recurrent=recurrent_settings(),
            without=frozenset(without),
            processes=1,
        )
        run = replay_demand(trace, settings, lambda *_: None).runs[0]
        held = np.minimum(np.where(np.isnan(run.in_force(0)), limit, run.in_force(0)), np.fmax(limit, demand))
        cells = []
        for low, high in AGES_HOURS.values():
            counts = seen & (age >= low) & (age < high) & np.isfinite(held)
            share = (demand > held + 1e-9)[counts].mean()
            slack = (held - demand)[counts].sum() / demand[counts].sum()
            cells.append(f"{share:.2%} / {slack:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
