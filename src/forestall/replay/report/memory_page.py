"""The report of a memory replay as a page: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from forestall.replay.memory.result import MemoryResult
from forestall.replay.policy_names import FORESTALL
from forestall.replay.report import memory_charts, words
from forestall.replay.report.ink import styled
from forestall.replay.report.templates import template


def render_memory_report(result: MemoryResult, path: Path) -> None:
    """Write the report; every name is escaped, VM and trace names come from elsewhere and may hold anything."""
    path.write_text(memory_page(result), encoding="utf-8")


def memory_page(result: MemoryResult) -> str:
    """The report as HTML text."""
    header, scored = result.header, [p for p in result.points if p.scores.touches]
    with styled():
        context = {
            "header": header,
            "result": result,
            "headline": result.headline,
            "sentence": memory_sentence(result),
            "curve": memory_charts.served_against_precision(scored, "curve") if len(scored) > 1 else None,
            "life": memory_charts.served_over_time(result.in_time, header.scored_from, header.touches, "life")
            if scored
            else None,
        }
    return template("memory.html.j2").render(context)


def memory_sentence(result: MemoryResult) -> str:
    """What happened, in one sentence."""
    header, s = result.header, result.headline.scores
    name = "Forestall" if header.policy == FORESTALL else header.policy
    if not s.touches:
        return f"{name} staged along {header.touches:,} first touches; nothing was scored."
    text = f"{name} had {words.percent(s.coverage)} of the pages there before they were first touched"
    return f"{text}; {words.percent(s.precision)} of what it staged was touched." if s.staged else f"{text}."
