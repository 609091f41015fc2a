"""``forestall trace resample``: a trace at a longer step, or with its short days stretched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forestall.bootstrap.telling import tell


def resample_command(
    trace: Annotated[Path, typer.Argument(help="Parquet or CSV file, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    step_seconds: Annotated[
        int, typer.Option("--step-seconds", min=1, help="New step, a multiple of the trace's own, as recorded.")
    ],
    factor: Annotated[
        int, typer.Option("--stretch", min=1, max=86_400, help="Every recorded second counts as so many.")
    ] = 1,
    midnight: Annotated[
        int, typer.Option("--midnight", help="With --stretch: an instant at which a recorded day begins, seconds.")
    ] = 0,
) -> None:
    """Bring a trace to a longer step: means, the highest peak, the last limit; a gap where most samples are missing.

    Intervals start at multiples of the new step on the clock. With --stretch, for recordings whose days are short,
    instants become seconds since the midnight before the recording: their calendar is hidden. Rates stay what they were
    in the seconds recorded.

    Example: forestall trace resample lab.parquet --out long.parquet --step-seconds 5 --stretch 144
    """
    from forestall.model.errors import WrongUse
    from forestall.replay.resampling import coarsen, stretch
    from forestall.replay.trace_reader import read_trace
    from forestall.replay.trace_writer import write_trace

    if midnight and factor == 1:
        raise WrongUse("--midnight is of no use without --stretch")
    recorded = read_trace(trace, warn=tell)
    made = stretch(coarsen(recorded, step_seconds), factor, midnight)
    write_trace(made, out)
    typer.echo(f"{out}: {len(made.vm_ids)} VMs, {made.grid.steps} intervals of {made.grid.step_seconds} s")
