"""``forestall burst``: the loop that lends cores which are idle for tenths of a second."""

from __future__ import annotations

from typing import Annotated

import typer

from forestall.cli.live_options import ConfigOption, StateOption, configured


def register(app: typer.Typer) -> None:
    """Add the command ``burst``."""
    app.command("burst")(burst)


def burst(
    state_folder: StateOption = None,
    config: ConfigOption = None,
    window_ms: Annotated[int | None, typer.Option(min=25, max=1000, help="A reservation holds for so long.")] = None,
    beat_ms: Annotated[int | None, typer.Option(min=5, max=100, help="Every so often counters are read.")] = None,
    violation_budget: Annotated[
        float | None, typer.Option(help="Share of windows in which lenders may want more than is reserved.")
    ] = None,
    reserved_cores: Annotated[float | None, typer.Option(min=0, help="Kept back for the host itself.")] = None,
    cores: Annotated[float | None, typer.Option(help="What there is to share; default: the cores of the host.")] = None,
    whole_cores: Annotated[
        bool | None, typer.Option("--whole-cores/--quota", help="Lend whole cores, or parts of them by a quota.")
    ] = None,
) -> None:
    """Run the burst loop alone, as `forestall run` does where a policy names borrowers.

    Who lends and who borrows comes on standard input, a JSON line whenever it changes; what is so goes to standard
    output, a line a second. When the input ends, everything is put back.

    Example: forestall burst --state-folder /run/burst < PIPE
    """
    from dataclasses import replace

    from forestall.bootstrap.burst_live import run_burst_loop
    from forestall.model.errors import WrongUse

    if violation_budget is not None and not 0 < violation_budget < 0.5:
        raise WrongUse(f"--violation-budget {violation_budget:g} is not between 0 and 0.5")
    if cores is not None and not cores > 0:
        raise WrongUse(f"--cores {cores:g}: must be above 0")
    configuration = configured(config, state_folder=state_folder)
    own = configuration.burst
    own = replace(
        own,
        window_ms=window_ms or own.window_ms,
        beat_ms=beat_ms or own.beat_ms,
        violation_budget=violation_budget or own.violation_budget,
        whole_cores=own.whole_cores if whole_cores is None else whole_cores,
    )
    if own.window_ms % own.beat_ms:
        raise WrongUse(f"--window-ms {own.window_ms} is not a multiple of --beat-ms {own.beat_ms}")
    host = configuration.host if reserved_cores is None else replace(configuration.host, reserved_cores=reserved_cores)
    if code := run_burst_loop(replace(configuration, burst=own, host=host), cores):
        raise typer.Exit(code)
