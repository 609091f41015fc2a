"""``forestall record``: write down what the VMs demand that run here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from forestall.cli.live_options import ConfigOption, ConnectOption, configured
from forestall.cli.parsing import parse_duration
from forestall.model.errors import WrongUse


def register(app: typer.Typer) -> None:
    """Add the command ``record``."""
    app.command("record")(record)


def record(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="Parquet file to write.")],
    connect: ConnectOption = None,
    step_seconds: Annotated[int, typer.Option("--step-seconds", min=1, max=3600, help="Length of an interval.")] = 1,
    duration: Annotated[
        str | None, typer.Option("--duration", help="How long: 90s, 30m, 1h, 7d; without it until Ctrl-C.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Only make a trace of what was cut off.")] = False,
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a trace that exists.")] = False,
) -> None:
    """Write a demand trace of the VMs that run here; nothing is taken from or given to any of them.

    What is recorded lies in the folder TRACE.recording until the end. If the recording is cut off, even by a power
    failure, the next `forestall record` on the same TRACE takes it up, and `--finish` ends it.

    Example: forestall record mine.parquet --step-seconds 10 --duration 7d
    """
    from forestall.bootstrap.recording import finish_recording, record_trace

    if trace.suffix.lower() != ".parquet":
        raise WrongUse(f"{trace}: a trace is recorded as Parquet; give it a name that ends in .parquet")
    if finish:
        typer.echo(finish_recording(trace, overwrite=force))
        return
    seconds = math.inf if duration is None else parse_duration(duration, what="--duration")
    typer.echo(record_trace(configured(config, connect=connect), trace, step_seconds, seconds, overwrite=force))
