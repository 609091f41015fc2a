"""The report of an access replay as a page: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from forestall.replay.access.result import AccessPoint, AccessResult
from forestall.replay.policy_names import FORESTALL
from forestall.replay.report import access_charts, words
from forestall.replay.report.ink import styled
from forestall.replay.report.templates import template
from forestall.replay.result import Variant


def render_access_report(result: AccessResult, path: Path) -> None:
    """Write the report; every name is escaped, VM and trace names come from elsewhere and may hold anything."""
    path.write_text(access_page(result), encoding="utf-8")


def access_page(result: AccessResult) -> str:
    """The report as HTML text."""
    with styled():
        context = _context(result)
    return template("access.html.j2").render(context)


def _context(result: AccessResult) -> dict[str, object]:
    header, scored = result.header, [p for p in result.points if p.scores.plain_misses]
    return {
        "header": header,
        "result": result,
        "headline": result.headline,
        "sentence": access_sentence(result),
        "curve": access_charts.removed_against_waste(scored, "curve") if len(scored) > 1 else None,
        "best": _best(scored),
        "life": access_charts.misses_over_time(result.missed, header.scored_from, header.accesses, "life")
        if scored
        else None,
        "calibration": access_charts.stated_and_used(result.calibration, "calibration") if result.calibration else None,
    }


def access_sentence(result: AccessResult) -> str:
    """What happened, in one sentence."""
    header, s = result.header, result.headline.scores
    name = "Forestall" if header.policy == FORESTALL else header.policy
    if not s.accesses:
        return f"{name} staged along {header.accesses:,} accesses; nothing was scored."
    if not s.plain_misses:
        return f"A plain cache of {header.cache_items:,} items misses nothing here."
    removed = words.percent(abs(s.removed_share))
    changed = f"removed {removed} of the misses" if s.removed_share >= 0 else f"added {removed} to the misses"
    text = f"{name} {changed} of a cache of {header.cache_items:,} items"
    return f"{text}; {words.percent(s.precision)} of what it fetched was used." if s.issued else f"{text}."


def _best(points: list[AccessPoint]) -> AccessPoint | None:
    """What removed most of the misses, who knows the future aside."""
    rivals = [p for p in points if p.variant is not Variant.ORACLE]
    return max(rivals, key=lambda p: p.scores.removed_share, default=None)
