"""``forestall replay``: every loop replayed on a recorded trace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forestall.cli.parsing import parse_budgets, parse_parts, parse_resources


def register(app: typer.Typer) -> None:
    """Add the command group ``replay``."""
    group = typer.Typer(help="Replay a loop on a recorded trace.", no_args_is_help=True)
    group.command("demand")(demand)
    group.command("burst")(burst)
    group.command("access")(access)
    group.command("memory")(memory)
    group.command("traffic")(traffic)
    group.command("anomaly")(anomaly)
    app.add_typer(group, name="replay")


def demand(
    trace: Annotated[Path, typer.Argument(help="Demand trace: a Parquet or CSV file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    policy: Annotated[
        str, typer.Option(help="forestall, a peer, several separated by commas, or all: side by side.")
    ] = "forestall",
    violation_budget: Annotated[
        str,
        typer.Option(help="Share of its intervals in which each VM may fall short; several, separated by commas."),
    ] = "0.01",
    lead_steps: Annotated[
        int, typer.Option(min=1, help="Intervals from the newest row to the one in which a decision is in force.")
    ] = 1,
    evaluate_from: Annotated[
        int | None, typer.Option(help="First instant evaluated, seconds; rows before it are history.")
    ] = None,
    resources: Annotated[
        str | None, typer.Option(help="cpu, memory, disk_read, disk_write, net_rx, net_tx; default: all there are.")
    ] = None,
    hosts: Annotated[Path | None, typer.Option(help="TOML file of hosts, their VMs and capacities.")] = None,
    vms_per_host: Annotated[int, typer.Option(min=0, help="Instead: so many VMs share a host.")] = 0,
    overcommit: Annotated[float, typer.Option(help="Sum of the limits on a host over what it has.")] = 1.0,
    policies: Annotated[Path | None, typer.Option(help="TOML file of policies; see docs/policy.md.")] = None,
    max_changes_per_vm_hour: Annotated[
        float | None, typer.Option(help="Change an allocation no more often, on average; default: no limit.")
    ] = None,
    forecasts: Annotated[bool, typer.Option("--forecasts", help="Write forecasts.parquet too; it is large.")] = False,
    decisions: Annotated[
        bool, typer.Option("--decisions", help="Write decisions.parquet, for `forestall explain`; it is large.")
    ] = False,
    statistical: Annotated[str, typer.Option(help="Kind of the hourly model: ets or arima.")] = "ets",
    statistical_series: Annotated[
        int, typer.Option(min=0, help="Model the hourly means of so many VMs, the busiest, as one more expert.")
    ] = 0,
    models: Annotated[
        Path | None, typer.Option(help="Folder of models to begin with; default: those that come with Forestall.")
    ] = None,
    without: Annotated[
        str,
        typer.Option(
            help="Leave parts out: recurrent, pretrained, combination, calibration, segments, correlation, adapter."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is random.")] = 0,
    dask: Annotated[
        str | None, typer.Option(help="Compute on the workers of this Dask scheduler: tcp://10.0.0.1:8786.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Forecast, state risk and allocate ahead, as if the trace were happening; write what came of it.

    Example: forestall replay demand trace.parquet --out out --violation-budget 0.05,0.01
    """
    from forestall.bootstrap.models import recurrent_settings
    from forestall.bootstrap.replay import demand_replay_to_folder
    from forestall.model.errors import WrongUse
    from forestall.replay.demand_replay import ReplaySettings
    from forestall.replay.hosts import Placement, load_hosts
    from forestall.settings import load_policy

    if hosts and vms_per_host:
        raise WrongUse("--hosts and --vms-per-host exclude each other")
    if not 0 < overcommit < 1e6:
        raise WrongUse(f"--overcommit {overcommit:g}: must be above 0")
    if max_changes_per_vm_hour is not None and not 0 < max_changes_per_vm_hour < 1e6:
        raise WrongUse(f"--max-changes-per-vm-hour {max_changes_per_vm_hour:g}: must be above 0")
    if statistical not in ("ets", "arima"):
        raise WrongUse(f"--statistical {statistical!r} is neither ets nor arima")
    settings = ReplaySettings(
        policy=policy,
        budgets=parse_budgets(violation_budget),
        lead_steps=lead_steps,
        evaluate_from=evaluate_from,
        resources=parse_resources(resources),
        placement=Placement(load_hosts(hosts) if hosts else (), vms_per_host, overcommit),
        max_changes_per_vm_hour=max_changes_per_vm_hour,
        policies=load_policy(policies) if policies else None,
        forecasts=forecasts,
        decisions=decisions,
        statistical=statistical,
        statistical_series=statistical_series,
        recurrent=recurrent_settings(seed, models),
        without=parse_parts(without),
        seed=seed,
    )
    summary = demand_replay_to_folder(trace, out, settings, quiet=quiet, dask=dask)
    typer.echo(summary)


def burst(
    trace: Annotated[Path, typer.Argument(help="Burst trace: a Parquet or CSV file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    policy: Annotated[
        str, typer.Option(help="forestall, a peer, several separated by commas, or all: side by side.")
    ] = "forestall",
    window_ms: Annotated[int, typer.Option(min=1, help="For how long a decision holds, milliseconds.")] = 100,
    violation_budget: Annotated[
        str,
        typer.Option(help="Share of its windows in which a reservation may be too small; several, with commas."),
    ] = "0.01",
    cores: Annotated[
        float | None,
        typer.Option(help="Cores of the host; default: as many as VMs, or more if the history needs them."),
    ] = None,
    pool: Annotated[
        bool, typer.Option("--pool", help="The VMs share what is reserved for them; else each has its own.")
    ] = False,
    history_seconds: Annotated[
        float, typer.Option(min=0.0, max=1e6, help="So much of the trace is learned from, not scored.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Reserve cores for the next tenth of a second and lend the rest, as if the trace were happening.

    Columns: vm_id, time_us, cpu_cores, in windows of 1 to 100 ms. Peers: fixed, last_peak, last_max_10, last_max_40,
    ewma, rolling_quantile, conformal_max, smartharvest, online_quantile, oracle.

    Example: forestall replay burst trace.parquet --out out --cores 2 --pool --policy all
    """
    from forestall.bootstrap.burst import burst_replay_to_folder
    from forestall.model.errors import WrongUse
    from forestall.replay.burst.replay import BurstReplaySettings

    if cores is not None and not 0 < cores < 1e6:
        raise WrongUse(f"--cores {cores:g}: must be above 0")
    settings = BurstReplaySettings(
        policy=policy,
        budgets=parse_budgets(violation_budget),
        window_ms=window_ms,
        cores=cores,
        pooled=pool,
        history_seconds=history_seconds,
        seed=seed,
    )
    typer.echo(burst_replay_to_folder(trace, out, settings, quiet=quiet))


def access(
    trace: Annotated[Path, typer.Argument(help="Access trace: a Parquet or CSV file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    policy: Annotated[
        str, typer.Option(help="forestall, a peer, several separated by commas, or all: side by side.")
    ] = "forestall",
    cache_items: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Items that the cache holds; a million take 1.5 GB.")
    ] = 1024,
    threshold: Annotated[
        float | None,
        typer.Option(help="Stage what is used with more than this probability, where that pays; default: learned."),
    ] = None,
    arrival_delay: Annotated[
        int, typer.Option(min=0, max=4096, help="What is asked for arrives so many accesses later.")
    ] = 0,
    history_share: Annotated[float, typer.Option(help="So much of the trace is learned from, not scored.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Written into the report; nothing is random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Bring blocks, pages or connections near before they are used, as if the trace were happening.

    Columns: sequence, vm_id, program_id, resource_type (block, page or connection), resource_id, op, size_bytes; writes
    prefetches.parquet. Peers: none, readahead_1, readahead_4, readahead_8, linux_like, stride, leap, markov_1,
    markov_2, markov_1_misses, markov_2_misses, probability_graph, mithril, amp, stms, domino, pg_linux, domino_linux,
    belady.

    Example: forestall replay access trace.parquet --out out --cache-items 4096 --policy all
    """
    from forestall.bootstrap.access import access_replay_to_folder
    from forestall.replay.access.replay import AccessReplaySettings

    settings = AccessReplaySettings(
        policy=policy,
        cache_items=cache_items,
        arrival_delay=arrival_delay,
        threshold=threshold,
        history_share=history_share,
        seed=seed,
    )
    typer.echo(access_replay_to_folder(trace, out, settings, quiet=quiet))


def memory(
    trace: Annotated[Path, typer.Argument(help="Memory trace: a Parquet or CSV file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    policy: Annotated[
        str, typer.Option(help="forestall, a peer, several separated by commas, or all: side by side.")
    ] = "forestall",
    staging_bytes: Annotated[
        int, typer.Option(min=1, help="Size of the staging area of all VMs; pages have 4096 bytes.")
    ] = 256 * 4096,
    history_share: Annotated[float, typer.Option(help="So much of the trace is learned from, not scored.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Written into the report; nothing is random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Populate guest memory before it is touched, as if the trace were happening.

    Columns: sequence, vm_id, trust_group, page (in the order of first touch; a page that comes again means that its VM
    began anew); writes staging.parquet. Peers: none, next_4, next_8, next_16, around_64, leap, markov, history, oracle.

    Example: forestall replay memory trace.parquet --out out --staging-bytes 1048576 --policy all
    """
    from forestall.bootstrap.memory import memory_replay_to_folder
    from forestall.replay.memory.replay import MemoryReplaySettings

    settings = MemoryReplaySettings(policy, staging_bytes, history_share, seed)
    typer.echo(memory_replay_to_folder(trace, out, settings, quiet=quiet))


def traffic(
    trace: Annotated[Path, typer.Argument(help="Traffic trace: a Parquet or CSV file, or a folder of them.")],
    topology: Annotated[
        Path, typer.Option(help="The network: JSON, node-link form of networkx, links with capacity_bps.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    policy: Annotated[
        str, typer.Option(help="forestall, a peer, several separated by commas, or all: side by side.")
    ] = "forestall",
    evaluate_from: Annotated[
        int | None, typer.Option(help="First instant evaluated, seconds; default: an hour after the first.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Written into the report; nothing is random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Choose the paths of traffic between nodes before it comes, as if the trace were happening.

    Columns: timestamp, source, target, bytes_per_s; writes routes.parquet. Peers: shortest_path, ecmp, last_matrix,
    ewma, last_hour_max, robust, hedera, oracle.

    Example: forestall replay traffic trace.parquet --topology network.json --out out --policy all
    """
    from forestall.bootstrap.traffic import traffic_replay_to_folder
    from forestall.replay.traffic.replay import TrafficReplaySettings

    settings = TrafficReplaySettings(policy=policy, evaluate_from=evaluate_from, seed=seed)
    typer.echo(traffic_replay_to_folder(trace, topology, out, settings, quiet=quiet))


def anomaly(
    series: Annotated[Path, typer.Argument(help="Series: a Parquet or CSV file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    policy: Annotated[
        str, typer.Option(help="forestall, a peer, several separated by commas, or all: side by side.")
    ] = "forestall",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Score how unusual each row of each series is, from that row and earlier ones; write scores.parquet.

    Columns: series, timestamp, value; with in_window (whether a row lies near a known anomaly) detectors are scored
    too. Peers: half_space_trees, robust_z, seasonal_residual, ewma, random.

    Example: forestall replay anomaly series.parquet --out out --policy all
    """
    from forestall.bootstrap.anomaly import anomaly_replay_to_folder

    typer.echo(anomaly_replay_to_folder(series, out, policy, seed, quiet=quiet))
