"""``forestall trace generate``: write a demand trace of made-up but plausible virtual machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forestall.replay.workload import Workload

_DEFAULT = Workload()


def generate_command(
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    vms: Annotated[int, typer.Option("--vms", min=1, help="Virtual machines.")] = _DEFAULT.vms,
    days: Annotated[float, typer.Option("--days", help="Length in days.")] = _DEFAULT.days,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same trace.")] = 0,
    step_seconds: Annotated[
        int, typer.Option("--step-seconds", min=1, help="Length of an interval.")
    ] = _DEFAULT.step_seconds,
    start: Annotated[int, typer.Option("--start", help="First instant, seconds UTC.")] = _DEFAULT.start,
) -> None:
    """Generate a demand trace: people by day, jobs by night, bursts, leaks, and groups that move together.

    Example: forestall trace generate --vms 100 --days 7 --seed 1 --out trace.parquet
    """
    from forestall.replay.generator import generate
    from forestall.replay.trace_reader import write_trace

    trace = generate(Workload(vms=vms, days=days, step_seconds=step_seconds, start=start), seed)
    write_trace(trace, out)
    typer.echo(f"{out}: {vms} VMs, {trace.grid.steps} intervals of {step_seconds} s, seed {seed}")
