"""``forestall staging``: memory of VMs that is populated before they touch it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from forestall.cli.live_options import ConfigOption, configured


def register(app: typer.Typer) -> None:
    """Add the command ``staging``."""
    app.command("staging")(staging)


def staging(
    config: ConfigOption = None,
    staged_bytes: Annotated[int | None, typer.Option(min=1, help="At most so much is staged.")] = None,
    block_bytes: Annotated[int | None, typer.Option(min=4096, help="Memory is staged in blocks of this size.")] = None,
    keep_free_bytes: Annotated[
        int | None, typer.Option(min=0, help="Nothing is staged while the host has less free memory.")
    ] = None,
    least_precision: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of staged pages that must be touched.")
    ] = None,
    core_ratio_per_ten_vms: Annotated[
        float | None, typer.Option(min=0, help="Share of a core that may be used for ten VMs.")
    ] = None,
) -> None:
    """Stage memory alone, as `forestall run` does for trust groups whose shadowing is enabled.

    Which VMs are shadowed comes on standard input, a JSON line whenever it changes; what is so goes to standard
    output, a line a second. When the input ends, what is staged is given back.

    Example: forestall staging < PIPE
    """
    from dataclasses import replace

    from forestall.bootstrap.staging_live import run_staging_loop

    configuration = configured(config)
    given: dict[str, Any] = {
        "staged_bytes": staged_bytes,
        "block_bytes": block_bytes,
        "keep_free_bytes": keep_free_bytes,
        "least_precision": least_precision,
        "core_ratio_per_ten_vms": core_ratio_per_ten_vms,
    }
    own = replace(configuration.staging, **{key: value for key, value in given.items() if value is not None})
    if code := run_staging_loop(replace(configuration, staging=own)):
        raise typer.Exit(code)
