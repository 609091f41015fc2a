"""``forestall demo``: the main job from nothing to a report that a person can look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SEED = 20
VMS = 48
DAYS = 7.0
HISTORY_DAYS = 4
POLICY = (
    "forestall,static,residual,moving_max_1h,seasonal_naive,vpa,autopilot,google_max,cloudscale,crane,"
    "koordinator,tournament,oracle"
)
POLICIES = """\
# Policies of the demo: what `forestall policy check demo/policy.toml` prints.
[groups]
gold = ["*0", "*5"]
silver = ["*1", "*2", "*3"]

[[rule]]
name = "gold"
groups = ["gold"]
weight = 4.0

[[rule]]
name = "silver"
groups = ["silver"]
weight = 2.0
"""


def register(app: typer.Typer) -> None:
    """Add the command ``demo``."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("demo"),
    vms: Annotated[int, typer.Option(min=4, help="VMs of the made-up trace.")] = VMS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the made-up trace.")] = SEED,
) -> None:
    """Make up a week of VMs, replay it side by side with other systems' policies, and write a report.

    Example: forestall demo --out demo
    """
    from forestall.bootstrap.replay import demand_replay_to_folder
    from forestall.model.resources import Resource
    from forestall.replay.demand_replay import ReplaySettings
    from forestall.replay.generator import Workload, generate
    from forestall.replay.hosts import Placement
    from forestall.replay.trace_writer import write_trace
    from forestall.settings import load_policy

    out.mkdir(parents=True, exist_ok=True)
    trace = generate(Workload(vms=vms, days=DAYS), seed)
    write_trace(trace, out / "trace.parquet")
    (out / "policy.toml").write_text(POLICIES, "utf-8")
    settings = ReplaySettings(
        policy=POLICY,
        budgets=(0.05, 0.01, 0.005, 0.001),
        evaluate_from=trace.grid.start + HISTORY_DAYS * 86_400,
        resources=(Resource.CPU, Resource.MEMORY),
        placement=Placement(vms_per_host=max(vms // 4, 1), overcommit=1.7),
        policies=load_policy(out / "policy.toml"),
        decisions=True,
        seed=seed,
    )
    typer.echo(f"{vms} made-up VMs over {DAYS:g} days, 4 hosts with 1/1.7 of the sum of their limits, seed {seed}")
    typer.echo(demand_replay_to_folder(out / "trace.parquet", out, settings))
    typer.echo(f"why a VM holds what it holds: forestall explain {trace.vm_ids[0]} --from {out}/budget-0.01")
