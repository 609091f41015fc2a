"""``forestall demo``: the main job on a recording of real guests, to a report that a person can look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HISTORY_DAYS = 4
BUDGETS = (0.01, 0.02, 0.05, 0.1)
HOST_CORES, HOST_MIB = 2, 768
POLICY = (
    "forestall,static,residual,moving_max_1h,seasonal_naive,vpa,autopilot,google_max,cloudscale,crane,"
    "koordinator,tournament,oracle"
)
POLICIES = """\
# Policies of the demo: what `forestall policy check demo/policy.toml` prints.
[groups]
gold = ["web"]
silver = ["database", "redis"]

[[rule]]
name = "gold"
groups = ["gold"]
weight = 4.0

[[rule]]
name = "silver"
groups = ["silver"]
weight = 2.0
"""
NAME = "five guests of the lab"
ORIGIN = (
    "Real guests (web, redis, database, batch, idle), recorded for 66 minutes at 1 s.",
    "A day of theirs lasts 10 minutes and is shown as 24 hours: an interval of 12 minutes is 5 s, an hour 25 s.",
    "Four days are history. The rest, half a day and their first weekend, is 312 intervals: 1 % of them is three.",
)


def register(app: typer.Typer) -> None:
    """Add the command ``demo``."""
    app.command("demo")(demo)


def demo(out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("demo")) -> None:
    """Replay what five real guests did, side by side with other systems' policies, and write a report.

    The recording comes with Forestall. A day of the guests lasted ten minutes; it is shown as 24 hours.

    Example: forestall demo --out demo
    """
    from dataclasses import replace

    from forestall.bootstrap.models import recurrent_settings
    from forestall.bootstrap.replay import replay_trace_to_folder
    from forestall.model.resources import Resource
    from forestall.replay.demand_replay import ReplaySettings
    from forestall.replay.hosts import Host, Placement
    from forestall.replay.recorded.lab import lab_days
    from forestall.replay.staging_folder import whole_folder
    from forestall.replay.trace_reader import read_trace
    from forestall.replay.trace_writer import write_trace
    from forestall.settings import load_policy

    with whole_folder(out) as folder:
        (folder / "policy.toml").write_text(POLICIES, "utf-8")
        write_trace(lab_days(), folder / "trace.parquet")
    trace = replace(read_trace(out / "trace.parquet"), name=NAME)
    settings = ReplaySettings(
        policy=POLICY,
        budgets=BUDGETS,
        evaluate_from=trace.grid.start + HISTORY_DAYS * 86_400,
        resources=(Resource.CPU, Resource.MEMORY),
        placement=Placement((Host("lab", ["*"], HOST_CORES, HOST_MIB * 1024**2),)),
        policies=load_policy(out / "policy.toml"),
        decisions=True,
        recurrent=recurrent_settings(),
        # The models that come with Forestall have seen this recording.
        without=frozenset({"pretrained"}),
    )
    for line in (*ORIGIN, f"They share a host of {HOST_CORES} cores and {HOST_MIB} MiB."):
        typer.echo(line)
    typer.echo(replay_trace_to_folder(trace, out, settings, list(ORIGIN)))
    typer.echo(f"why a VM holds what it holds: forestall explain web --from {out}/budget-{BUDGETS[0]:g}")
