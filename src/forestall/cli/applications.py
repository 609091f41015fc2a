"""``forestall applications``: what runs in each VM, as far as it is recognised."""

from __future__ import annotations

from typing import Annotated

import typer

from forestall.cli.live_options import ConfigOption, JsonOption, StateOption, configured, print_json
from forestall.cli.status import asked


def register(app: typer.Typer) -> None:
    """Add the command ``applications``."""
    app.command("applications")(applications)


def applications(
    summary: Annotated[
        bool,
        typer.Option("--summary", help="Only how many VMs of each trust group run what; small numbers are left out."),
    ] = False,
    state_folder: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what runs in each VM: web, database, cache, streaming, batch, idle or unknown, with its probability.

    By its traffic, by its behaviour, and by both together; and what rules of the policy take it for. A summary is what
    may be given away: a number of VMs that is less than [applications] summary_vms is not told.

    Example: forestall applications
    """
    settings = configured(config, state_folder=state_folder)
    least = {"least_vms": settings.applications.summary_vms} if summary else {}
    found = asked(settings.state_folder, "applications", **least)
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from forestall.cli.live_tables import applications_summary, applications_table

    Console().print(applications_summary(found) if summary else applications_table(found))
