"""``forestall staging``: memory and blocks of disks that are made ready before VMs ask for them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, ConnectOption, StateOption, configured


class What(StrEnum):
    """What a process stages."""

    MEMORY = "memory"
    BLOCKS = "blocks"


class MemoryUse(StrEnum):
    """What tells which memory VMs use."""

    MARKS = "marks"
    DAMON = "damon"


def register(app: typer.Typer) -> None:
    """Add the command ``staging``."""
    app.command("staging")(staging)


def staging(
    what: Annotated[What, typer.Argument(help="What is staged.")] = What.MEMORY,
    config: ConfigOption = None,
    state_folder: StateOption = None,
    connect: ConnectOption = None,
    staged_bytes: Annotated[int | None, typer.Option(min=1, help="At most so much memory is staged.")] = None,
    block_bytes: Annotated[int | None, typer.Option(min=4096, help="Memory is staged in blocks of this size.")] = None,
    cached_bytes: Annotated[
        int | None, typer.Option(min=1, help="At most so much of disks is in the page cache and not read yet.")
    ] = None,
    log_bytes: Annotated[int | None, typer.Option(min=0, help="Size of the log of accesses; 0: none.")] = None,
    keep_free_bytes: Annotated[
        int | None, typer.Option(min=0, help="Nothing is staged while the host has less free memory.")
    ] = None,
    least_precision: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of what is staged that must be used.")
    ] = None,
    core_ratio_per_ten_vms: Annotated[
        float | None, typer.Option(min=0, help="Share of a core that may be used for ten VMs.")
    ] = None,
    memory_use: Annotated[MemoryUse | None, typer.Option(help="What tells which memory is used.")] = None,
) -> None:
    """Stage memory or blocks alone, as `forestall run` does for trust groups whose shadowing is enabled.

    Which VMs are shadowed comes on standard input, a JSON line whenever it changes; what is so goes to standard
    output, a line a second. When the input ends, memory that is staged is given back.

    Example: forestall staging memory < PIPE
    """
    from dataclasses import replace

    from forestall.bootstrap.staging_live import run_block_loop, run_memory_loop

    configuration = configured(config, state_folder=state_folder, connect=connect)
    given: dict[str, Any] = {
        "staged_bytes": staged_bytes,
        "block_bytes": block_bytes,
        "cached_bytes": cached_bytes,
        "log_bytes": log_bytes,
        "keep_free_bytes": keep_free_bytes,
        "least_precision": least_precision,
        "core_ratio_per_ten_vms": core_ratio_per_ten_vms,
        "memory_use": memory_use and memory_use.value,
    }
    own = replace(configuration.staging, **{key: value for key, value in given.items() if value is not None})
    run = run_memory_loop if what is What.MEMORY else run_block_loop
    if code := run(replace(configuration, staging=own)):
        raise typer.Exit(code)
