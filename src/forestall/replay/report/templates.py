"""Templates of the pages: whatever they are given is escaped, and what they are not given is an error."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from forestall.replay.report import words


def template(name: str) -> Template:
    """The template with this file name."""
    environment = Environment(
        loader=PackageLoader("forestall.replay.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name_of in ("percent", "exact", "number", "small", "cores", "duration", "size", "instant", "amount"):
        environment.filters[name_of] = getattr(words, name_of)
    return environment.get_template(name)
