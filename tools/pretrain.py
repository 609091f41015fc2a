"""Trains the models that come with Forestall, for hosts that have no past yet.

    python tools/pretrain.py [--azure FOLDER]

They are trained on what may be given away: generated workloads, the recording of the lab's guests and, for CPU, the
Azure public dataset (CC BY 4.0; Cortez et al., SOSP 2017), of which only the history is used: what the evaluation
scores, the models have not seen. Without ``--azure`` they are trained on the rest. The same data and seed give the
same models, on the same machine. A quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from forestall.adapters.files.models import write_model
from forestall.learning.recurrent.tape import joined, tape_of
from forestall.learning.training.fit import FitSettings, fit
from forestall.model.forecast import Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import Trace
from forestall.replay.generator import generate
from forestall.replay.recorded.lab import lab_days
from forestall.replay.trace_reader import read_trace
from forestall.replay.workload import Workload

OUT = Path("src/forestall/learning/recurrent/shipped")
TARGETS = (
    *(Target(Statistic.MEAN, steps) for steps in (1, 2, 3, 12)),
    *(Target(Statistic.PEAK, steps) for steps in (2, 3, 12)),
)
MOST_ROWS = {resource: 12_000_000 if resource is Resource.CPU else 4_000_000 for resource in Resource}
AZURE = ("azure_avg.parquet", "azure_max.parquet")
AZURE_HISTORY_DAYS = 14
GENERATED = "generated workloads (seeds 101 and 102)"
LAB = "the recording of the lab's guests"
CLOUD = "Azure public dataset V1, days 1 to 14 (CC BY 4.0; Cortez et al., SOSP 2017)"


def traces(azure: Path | None) -> Iterator[tuple[str, Trace]]:
    """Traces to train on, and what each is."""
    for seed in (101, 102):
        yield GENERATED, generate(Workload(vms=30, days=12), seed)
    yield LAB, lab_days()
    for name in AZURE if azure else ():
        trace = read_trace(azure / name) if azure else None
        if trace:
            yield CLOUD, first_days(trace, AZURE_HISTORY_DAYS)


def first_days(trace: Trace, days: int) -> Trace:
    """The beginning of a trace."""
    steps = min(days * 86_400 // trace.grid.step_seconds, trace.grid.steps)
    return replace(
        trace,
        grid=replace(trace.grid, steps=steps),
        demand={r: values[:steps] for r, values in trace.demand.items()},
        limit={r: values[:steps] for r, values in trace.limit.items()},
        active_users=None if trace.active_users is None else trace.active_users[:steps],
    )


def main() -> None:
    """Train and write a model for each resource."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--azure", type=Path, help="folder with azure_avg.parquet and azure_max.parquet")
    options.add_argument("--out", type=Path, default=OUT, help="where to write")
    options.add_argument("--resources", default=",".join(Resource), help="for which resources")
    arguments = options.parse_args()
    material = list(traces(arguments.azure))
    for name in arguments.resources.split(","):
        resource = Resource(name)
        used = [(origin, trace) for origin, trace in material if resource in trace.demand]
        tape = joined([tape_of(trace, resource) for _, trace in used])
        model = fit(tape, TARGETS, FitSettings(passes=40, most_rows=MOST_ROWS[resource]))
        origins = "; ".join(dict.fromkeys(origin for origin, _ in used))
        model = replace(model, about=replace(model.about, trained_on=origins))
        write_model(arguments.out / name, model)
        print(f"{name}: {tape.vms} VMs, {tape.steps} steps: {origins}", file=sys.stderr)


if __name__ == "__main__":
    main()
