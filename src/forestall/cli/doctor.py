"""``forestall doctor``: what this host offers, what is missing, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from forestall.cli.live_options import ConfigOption, ConnectOption

if TYPE_CHECKING:
    from pathlib import Path

    from forestall.adapters.host_facts.facts import HostFacts
    from forestall.adapters.host_facts.finding import Finding


def register(app: typer.Typer) -> None:
    """Add the command ``doctor``."""
    app.command("doctor")(doctor)


def doctor(
    connect: ConnectOption = None,
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what this host offers, what is missing, and the command that mends it.

    Nothing is changed. The exit code is 0 if Forestall can at least observe here, else 1.

    Example: forestall doctor --connect qemu:///system
    """
    from forestall.adapters.host_facts.examination import can_observe, examine

    findings = examine(_facts(connect, config))
    if json:
        import msgspec

        answer = {"can_observe": can_observe(findings), "findings": findings}
        typer.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        for finding in findings:
            typer.echo(_line(finding))
    if not can_observe(findings):
        raise typer.Exit(1)


def _facts(connect: str | None, config: Path | None) -> HostFacts:
    from forestall.adapters.host_facts.reader import FactReader
    from forestall.model.errors import BadInput
    from forestall.service.configuration import Configuration
    from forestall.settings import load_configuration

    try:
        configuration, problem = load_configuration(config), ""
    except BadInput as error:
        configuration, problem = Configuration(), str(error)
    uri = connect or configuration.connect
    step = None if uri.startswith("simulated:") else configuration.step_seconds
    return FactReader().read(uri, configuration.state_folder, problem, configuration.store.url, step)


def _line(finding: Finding) -> str:
    """Status, what, why it matters, how to mend it."""
    parts = [finding.what, finding.why, f"fix: {finding.fix}" if finding.fix else ""]
    return f"{finding.status:<8} {finding.name:<16} {' | '.join(filter(None, parts))}"
