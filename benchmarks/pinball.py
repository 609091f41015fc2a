"""Pinball loss of Forestall's forecasts beside other forecasters, 5 minutes to a day ahead.

    python benchmarks/pinball.py TRACE RESOURCE EVALUATE_FROM [--history-days 14] [--days 7] [--fits 20]

Forestall's combination, its boosted and its recurrent expert alone and the seasonal naive forecast (with the quantiles
of its own errors) are scored at every interval of the days after EVALUATE_FROM. AutoETS, AutoARIMA and MSTL
(statsforecast, as shipped: intervals of their own) are fitted for each of the busiest VMs at so many instants spread
over these days, on the days before; at these instants everybody is compared. All losses are relative to the seasonal
naive forecast's on the same pairs; intervals are 95 %, bootstrapped over VMs and days (where fitted: instants). Nobody
is held to have forecast more than a VM's limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from forestall.bootstrap.models import recurrent_settings
from forestall.learning.boosted import Boosted
from forestall.learning.learner import Learner, LearnerSettings
from forestall.learning.past import floor_of, plausible
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray, Trace
from forestall.profiling.window import Window
from forestall.replay.peers.statistical import models
from forestall.replay.scores.forecast import PINBALL_LEVELS, pinball_loss
from forestall.replay.trace_reader import read_trace

HORIZON_SECONDS = {"5 min": 300, "15 min": 900, "1 h": 3_600, "1 day": 86_400}
MINE = ("forestall", "boosted", "recurrent", "seasonal_naive")
FITTED_STEPS = {"autoets": 576, "autoarima": 576, "mstl": 2_016}
BUSIEST = 25
REPLICATES = 500
PLACES = [LEVELS.index(level) for level in PINBALL_LEVELS]


def forecast_all(trace: Trace, resource: Resource, first: int, targets: tuple[Target, ...]) -> FloatArray:
    """Quantiles (row, forecaster, target, vm, level) of the rows from ``first``, by :data:`MINE`."""
    step = trace.grid.step_seconds
    beside = {r: Window(step, floor_of(r)) for r in trace.resources if r != resource}
    others = {r: plausible(trace.demand[r], trace.known_limit(r)) for r in beside}
    recurrent = replace(recurrent_settings(0, None), calendar=trace.calendar)
    learner = Learner(resource, step, LearnerSettings(targets, targets, recurrent=recurrent), beside)
    names = [expert.name for expert in learner.experts]
    for expert in learner.experts:
        if isinstance(expert, Boosted):
            expert.rest = lambda vms: None  # type: ignore[method-assign]  # alone it has to speak for all
    limit, vms = trace.known_limit(resource), len(trace.vm_ids)
    known = np.searchsorted(trace.first_seen(), np.arange(trace.grid.steps), side="right")
    shape = (trace.grid.steps - first, len(MINE), len(targets), vms, len(PLACES))
    result = np.full(shape, np.nan, np.float32)
    for i, n in enumerate(known):
        for r, window in beside.items():
            window.push(others[r][i, :n], np.full(n, np.inf))
        learner.take_in(trace.demand[resource][i, :n], limit[i, :n], trace.grid.at(i))
        combined = learner.step(trace.grid.at(i))
        if i >= first:
            spoken = learner.spoken()
            result[i - first, 0, :, :n] = combined[..., PLACES]
            for k, name in enumerate(MINE[1:], start=1):
                result[i - first, k, :, :n] = spoken[:, names.index(name)][..., PLACES]
    return result


def fit_all(demand: FloatArray, rows: list[int], vms: list[int], steps: list[int]) -> dict[str, FloatArray]:
    """Quantiles (row, target, vm, level) of statsforecast, fitted after each of ``rows`` for each of ``vms``."""
    library = models()
    makers = {
        "autoets": lambda: library.AutoETS(season_length=1),
        "autoarima": lambda: library.AutoARIMA(season_length=1),
        "mstl": lambda: library.MSTL(season_length=[288]),
    }
    result = {name: np.full((len(rows), len(steps), len(vms), len(PLACES)), np.nan) for name in makers}
    for i, row in enumerate(rows):
        for j, vm in enumerate(vms):
            for name, make in makers.items():
                past = _without_gaps(demand[max(0, row + 1 - FITTED_STEPS[name]) : row + 1, vm])
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    said = make().forecast(y=past, h=max(steps), level=[80, 90, 98])
                columns = [said["mean"], said["hi-80"], said["hi-90"], said["hi-98"]]
                for k, ahead in enumerate(steps):
                    result[name][i, k, j] = np.maximum([np.asarray(c)[ahead - 1] for c in columns], 0.0)
        print(f"  fitted {i + 1} of {len(rows)}", file=sys.stderr, flush=True)
    return result


def _without_gaps(values: FloatArray) -> FloatArray:
    known = np.flatnonzero(np.isfinite(values))
    return np.interp(np.arange(len(values)), known, values[known]) if len(known) else np.zeros(len(values))


def losses(quantiles: FloatArray, actual: FloatArray) -> FloatArray:
    """Loss (row, vm, level) of ``quantiles`` (row, vm, level); NaN where ``actual`` (row, vm) is not known."""
    return np.stack([pinball_loss(actual, quantiles[..., k], level) for k, level in enumerate(PINBALL_LEVELS)], axis=-1)


def relative(mine: FloatArray, theirs: FloatArray, times: IntArray) -> list[list[float]]:
    """For each level: loss over loss where both spoke, both (row, vm, level), and its 95 % interval.

    The interval is bootstrapped over VMs and over ``times`` (row,), numbers from 0 of rows that are wrong together.
    """
    both = np.isfinite(mine) & np.isfinite(theirs)
    starts = np.flatnonzero(np.diff(times, prepend=-1))
    sums = [np.add.reduceat(np.where(both, loss, 0.0), starts, axis=0) for loss in (mine, theirs)]
    generator = np.random.default_rng(0)
    drawn = [generator.multinomial(n, np.full(n, 1 / n), REPLICATES) for n in sums[0].shape[:2]]
    draws = [np.einsum("bt,tvl,bv->bl", drawn[0], loss, drawn[1], optimize=True) for loss in sums]
    point = sums[0].sum(axis=(0, 1)) / sums[1].sum(axis=(0, 1))
    low, high = np.nanquantile(draws[0] / draws[1], [0.025, 0.975], axis=0)
    return np.stack([point, low, high], axis=1).round(4).tolist()


def main() -> None:
    """Run it and print a table; write everything to ``--out``."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("trace", type=Path)
    options.add_argument("resource", type=Resource)
    options.add_argument("evaluate_from", type=int)
    options.add_argument("--history-days", type=int, default=14)
    options.add_argument("--days", type=int, default=7)
    options.add_argument("--fits", type=int, default=20, help="instants at which each VM is fitted")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    trace = read_trace(given.trace, None, lambda line: None)
    step = trace.grid.step_seconds
    begin = trace.grid.index(given.evaluate_from - given.history_days * 86_400)
    end = trace.grid.index(given.evaluate_from + (given.days + 1) * 86_400)
    trace = cut(trace, begin, end)
    first = trace.grid.index(given.evaluate_from)
    targets = tuple(Target(Statistic.MEAN, max(1, s // step)) for s in HORIZON_SECONDS.values())
    steps, started = [t.steps for t in targets], time.monotonic()
    rows = range(first, trace.grid.steps - max(steps))
    limit = trace.known_limit(given.resource)
    ceiling = np.where(np.isnan(limit), np.inf, limit)
    demand = np.minimum(trace.demand[given.resource], ceiling)
    said = forecast_all(trace, given.resource, first, targets)[: len(rows)]
    spent = time.monotonic() - started
    chosen = [int(r) for r in np.linspace(rows[0], rows[-1], given.fits)]
    mean = np.nan_to_num(np.nanmean(demand[:first], axis=0))
    vms = [int(v) for v in np.argsort(-mean, kind="stable")[:BUSIEST]]
    fitted = fit_all(demand, chosen, vms, steps)
    report = {"trace": given.trace.name, "resource": given.resource, "rows": len(rows), "seconds": round(spent)}
    print(f"{given.trace.name} {given.resource}: {len(rows)} rows; Forestall's forecasts took {spent:.0f} s")
    for k, name in enumerate(HORIZON_SECONDS):
        actual, most = demand[np.array(rows) + steps[k]], ceiling[rows][..., None]
        every = {who: losses(np.minimum(said[:, j, k], most), actual) for j, who in enumerate(MINE)}
        there = np.array(chosen) - first
        outcome, most = demand[np.array(chosen)[:, None] + steps[k], vms], ceiling[chosen][:, vms, None]
        some = {who: losses(np.minimum(said[there, j, k][:, vms], most), outcome) for j, who in enumerate(MINE)}
        some |= {who: losses(np.minimum(quantiles[:, k], most), outcome) for who, quantiles in fitted.items()}
        days, instants = np.arange(len(rows)) * step // 86_400, np.arange(len(chosen))
        report[name] = {
            "every interval": {who: relative(loss, every["seasonal_naive"], days) for who, loss in every.items()},
            "where fitted": {who: relative(loss, some["seasonal_naive"], instants) for who, loss in some.items()},
            "forestall over": {who: relative(some["forestall"], loss, instants) for who, loss in some.items()}
            | {f"{who} (every interval)": relative(every["forestall"], loss, days) for who, loss in every.items()},
            "spoke": {who: round(float(np.isfinite(loss).mean()), 4) for who, loss in (every | some).items()},
        }
        for kind, table in list(report[name].items())[:2]:
            for who, values in table.items():
                print(f"| {name} | {kind} | {who} | " + " | ".join(f"{v[0]:.3f}" for v in values) + " |")
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def cut(trace: Trace, begin: int, end: int) -> Trace:
    """The rows from ``begin`` up to ``end`` of a trace."""
    grid = replace(trace.grid, start=trace.grid.at(begin), steps=min(end, trace.grid.steps) - begin)
    return replace(
        trace,
        grid=grid,
        demand={r: values[begin:end] for r, values in trace.demand.items()},
        limit={r: values[begin:end] for r, values in trace.limit.items()},
        cpu_peak=None,
        active_users=None,
    )


if __name__ == "__main__":
    main()
