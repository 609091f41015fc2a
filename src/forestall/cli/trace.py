"""``forestall trace``: bring a recorded trace into Forestall's form, and look at what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forestall.bootstrap.telling import tell
from forestall.cli.generate import generate_command
from forestall.cli.resample import resample_command

if TYPE_CHECKING:
    from forestall.replay.trace_summary import TraceSummary

_FORMATS = "alibaba, azure, bitbrains, planetlab, prometheus or table"


def register(app: typer.Typer) -> None:
    """Add ``trace`` and its commands to the command line."""
    group = typer.Typer(help="Import, generate, resample and check recorded demand traces.", no_args_is_help=True)
    group.command("import")(import_command)
    group.command("check")(check_command)
    group.command("generate")(generate_command)
    group.command("resample")(resample_command)
    app.add_typer(group, name="trace")


def import_command(
    format: Annotated[str, typer.Argument(help=f"What SOURCE is: {_FORMATS}.")],
    source: Annotated[str, typer.Argument(help="File or folder; for prometheus the URL of the server.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    step: Annotated[int | None, typer.Option("--step", min=1, help="Bring the trace to this step, seconds.")] = None,
    column_map: Annotated[
        list[str] | None,
        typer.Option("--map", help="table: COLUMN=SOURCE_COLUMN[*FACTOR] or COLUMN=NUMBER; may be repeated."),
    ] = None,
    cores: Annotated[
        float | None, typer.Option("--cores", min=0, help="alibaba, planetlab: cores of each machine.")
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option("--memory-gib", min=0, help="alibaba: memory of each machine, GiB.")
    ] = None,
    vmtable: Annotated[Path | None, typer.Option("--vmtable", help="azure: vmtable.csv[.gz].")] = None,
    max_vms: Annotated[
        int | None, typer.Option("--max-vms", min=1, help="alibaba, azure: keep the first N VMs by name.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", help="prometheus: first instant, seconds UTC or ISO 8601.")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", help="prometheus: end, seconds UTC or ISO 8601.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="prometheus: the label that names the VM.")] = None,
) -> None:
    """Bring a trace of another format into the form that `forestall replay demand` reads.

    Example: forestall trace import bitbrains ./rnd/2013-7 --out bitbrains.parquet

    Example: forestall trace import table usage.csv --map cpu_cores=usage_pct*0.01 --map cpu_limit_cores=1
    --out mine.parquet
    """
    from forestall.replay.importers.formats import import_trace
    from forestall.replay.trace_writer import write_trace

    given: dict[str, Any] = {
        "step_seconds": step,
        "column_map": column_map,
        "cores": cores,
        "memory_gib": memory_gib,
        "vmtable": vmtable,
        "max_vms": max_vms,
        "start": start,
        "end": end,
        "label": label,
    }
    options = {name: value for name, value in given.items() if value not in (None, [])}
    trace = import_trace(format, source, warn=tell, **options)
    write_trace(trace, out)
    typer.echo(f"{out}: {len(trace.vm_ids)} VMs, {trace.grid.steps} intervals of {trace.grid.step_seconds} s")


def check_command(
    trace: Annotated[Path, typer.Argument(help="Parquet or CSV file, or a folder of them.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what is in a demand trace, what had to be repaired, and what looks wrong.

    Example: forestall trace check trace.parquet --json
    """
    from forestall.replay.trace_reader import read_trace
    from forestall.replay.trace_summary import summarise

    lines: list[str] = []
    summary = summarise(read_trace(trace, warn=lines.append), lines)
    for line in lines:
        tell(line)
    if json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode())
    else:
        _print_table(trace, summary)


def _print_table(path: Path, summary: TraceSummary) -> None:
    facts = [
        ("VMs", str(summary.vms)),
        ("from", summary.first),
        ("to", summary.last),
        ("step", f"{summary.step_seconds} s, {summary.steps} intervals"),
        ("samples", str(summary.samples)),
        ("gaps", f"{summary.gaps} missing samples ({summary.gap_ratio:.2%}), longest {summary.longest_gap} s"),
        ("calendar", "real dates" if summary.calendar else "hidden"),
        ("repairs", str(len(summary.repairs))),
        ("warnings", str(len(summary.warnings))),
        ("digest", summary.digest),
    ]
    typer.echo(str(path))
    for name, value in facts:
        typer.echo(f"  {name:<10}{value}")
    typer.echo(f"  {'resource':<12}{'unit':<13}{'VMs':>6}{'mean':>14}{'p99':>14}{'limit':>14}")
    for r in summary.resources:
        limit = "none" if r.mean_limit is None else f"{r.mean_limit:.6g}"
        typer.echo(f"  {r.name:<12}{r.unit:<13}{r.vms:>6}{r.mean:>14.6g}{r.p99:>14.6g}{limit:>14}")
