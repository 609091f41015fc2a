"""``forestall access``: which pages and blocks VMs use, when, and how much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json
from forestall.model.errors import WrongUse

if TYPE_CHECKING:
    from rich.table import Table

    from forestall.adapters.access_log.reading import Selection

VmOption = Annotated[str | None, typer.Option("--vm", help="Only those of this VM.")]
KindOption = Annotated[str | None, typer.Option("--kind", help="Only those of a page, block or connection.")]
PlaceOption = Annotated[str | None, typer.Option("--place", help="Only those there: memory, or the path of a file.")]
GroupOption = Annotated[str | None, typer.Option("--group", help="Only those of this trust group.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="Only since so long ago: 90s, 30m, 1h, 7d.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only until so long ago.")]
MostOption = Annotated[int, typer.Option("--most", min=1, help="At most so many lines.")]
SummaryOption = Annotated[
    bool, typer.Option("--summary", help="Only what may be given away: trust groups of enough VMs.")
]


def register(app: typer.Typer) -> None:
    """Add the command ``access`` with its sub-commands."""
    group = typer.Typer(
        help="Which pages and blocks VMs use, as far as it was logged; a daemon need not run.", no_args_is_help=True
    )
    group.command("top")(top)
    group.command("runs")(runs)
    group.command("heatmap")(heatmap)
    group.command("export")(export)
    app.add_typer(group, name="access")


def top(
    by: Annotated[str | None, typer.Option("--by", help="Count by item, place, vm or program; default: item.")] = None,
    vm: VmOption = None,
    kind: KindOption = None,
    place: PlaceOption = None,
    group: GroupOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    most: MostOption = 20,
    summary: SummaryOption = False,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what was used most: how often, how much, how much of that was written, when, and with which pauses.

    A summary counts by trust group, and leaves out those of fewer VMs than [applications] summary_vms.

    Example: forestall access top --by place --since 1h
    """
    from dataclasses import asdict

    from forestall.adapters.access_log import uses
    from forestall.bootstrap.access_log import access_folder

    if by is not None and (summary or by not in uses.SHOWN):
        raise WrongUse("--summary counts by trust group" if summary else f"--by {by}: is none of {_any(uses.SHOWN)}")
    settings = configured(config, state_folder=state_folder)
    folder, selection = access_folder(settings), _selection(vm, kind, place, group, since, until)
    least = settings.applications.summary_vms if summary else 1
    by = "group" if summary else by or "item"
    found = uses.top(folder, selection, by=by, most=most, least_vms=least)
    if as_json:
        print_json([asdict(use) for use in found])
    elif not found:
        _nothing(folder, selection, least)
    else:
        from forestall.cli.access_tables import uses_table

        _print(uses_table(found, by))


def runs(
    vm: VmOption = None,
    kind: KindOption = None,
    place: PlaceOption = None,
    group: GroupOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    most: MostOption = 20,
    summary: SummaryOption = False,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the longest sequential runs, and which share of the accesses in each place continue one.

    An access continues a run if it begins where the VM's last one in this place ended. A summary is of the shares of
    trust groups, and leaves out those of fewer VMs than [applications] summary_vms.

    Example: forestall access runs --kind block --since 30m
    """
    from dataclasses import asdict

    from forestall.adapters.access_log.runs import runs as runs_of
    from forestall.adapters.access_log.runs import runs_of_groups
    from forestall.bootstrap.access_log import access_folder

    settings = configured(config, state_folder=state_folder)
    folder, selection = access_folder(settings), _selection(vm, kind, place, group, since, until)
    least = settings.applications.summary_vms if summary else 1
    longest, shares = ([], []) if summary else runs_of(folder, selection, most=most)
    if summary:
        shares = runs_of_groups(folder, selection, most=most, least_vms=least)
    if as_json:
        print_json({"runs": [asdict(run) for run in longest], "shares": [asdict(share) for share in shares]})
    elif not shares:
        _nothing(folder, selection, least)
    else:
        from forestall.cli.access_tables import runs_table, shares_table

        if longest:
            _print(runs_table(longest))
        _print(shares_table(shares, by_group=summary))


def heatmap(
    vm: VmOption = None,
    kind: KindOption = None,
    place: PlaceOption = None,
    group: GroupOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="So many spans of time.")] = 20,
    columns: Annotated[
        int | None, typer.Option("--columns", min=1, max=1000, help="So many parts of the place; default: as fit.")
    ] = None,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw when which part of a place was used, the more often the darker. Several places are laid over each other.

    Example: forestall access heatmap --vm web-1 --place memory
    """
    from rich.console import Console

    from forestall.adapters.access_log.heatmap import heatmap as heatmap_of
    from forestall.bootstrap.access_log import access_folder
    from forestall.cli.access_tables import LABEL_WIDTH, heatmap_lines

    console = Console()
    fit = max(console.width - LABEL_WIDTH, 10)
    folder = access_folder(configured(config, state_folder=state_folder))
    selection = _selection(vm, kind, place, group, since, until)
    found = heatmap_of(folder, selection, rows=rows, columns=columns or fit)
    if as_json:
        names = ("counts", "instants", "numbers")
        print_json({name: [] if found is None else getattr(found, name).tolist() for name in names})
    elif found is None:
        _nothing(folder, selection)
    else:
        for line in heatmap_lines(found):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def export(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="Parquet file to write.")],
    vm: VmOption = None,
    kind: KindOption = None,
    place: PlaceOption = None,
    group: GroupOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a trace that exists.")] = False,
    state_folder: StateOption = None,
    config: ConfigOption = None,
) -> None:
    """Write an access trace for `forestall replay access`, in which no VM, program or file is named.

    VMs and programs are called by a hash with the key of their trust group, which stays on this host.

    Example: forestall access export mine.parquet --since 1h
    """
    from forestall.bootstrap.access_log import export_accesses

    if trace.suffix.lower() != ".parquet":
        raise WrongUse(f"{trace}: a trace is exported as Parquet; give it a name that ends in .parquet")
    selection = _selection(vm, kind, place, group, since, until)
    typer.echo(export_accesses(configured(config, state_folder=state_folder), trace, selection, overwrite=force))


def _selection(
    vm: str | None, kind: str | None, place: str | None, group: str | None, since: str | None, until: str | None
) -> Selection:
    """What the options choose."""
    from forestall.adapters.access_log.reading import Selection
    from forestall.adapters.clock.system import SystemClock
    from forestall.cli.parsing import parse_duration
    from forestall.ports.access_log import KINDS

    if kind is not None and kind not in KINDS:
        raise WrongUse(f"--kind {kind}: is none of {_any(KINDS)}")
    now = SystemClock().now()
    first = None if since is None else now - parse_duration(since, what="--since")
    end = None if until is None else now - parse_duration(until, what="--until")
    if first is not None and end is not None and first >= end:
        raise WrongUse(f"--since {since} --until {until}: it ends before it begins")
    return Selection(vm, kind, place, group, first, end)


def _print(table: Table) -> None:
    from rich.console import Console

    from forestall.cli.access_tables import LEAST_WIDTH

    Console(width=max(Console().width, LEAST_WIDTH)).print(table)


def _any(words: tuple[str, ...]) -> str:
    return ", ".join(words)


def _nothing(folder: Path, selection: Selection, least_vms: int = 1) -> None:
    """Say that there is nothing to be shown."""
    from forestall.adapters.access_log.reading import Selection

    fitting = "" if selection == Selection() else " that fit the options"
    groups = f" by a trust group of at least {least_vms} VMs" if least_vms > 1 else ""
    typer.echo(f"no accesses were logged{fitting}{groups}: {folder}")
