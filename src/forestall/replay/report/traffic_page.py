"""The report of a traffic replay as a page: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from forestall.replay.policy_names import FORESTALL
from forestall.replay.report import traffic_charts, words
from forestall.replay.report.ink import styled
from forestall.replay.report.templates import template
from forestall.replay.traffic.replay import ECMP
from forestall.replay.traffic.result import TrafficResult


def render_traffic_report(result: TrafficResult, path: Path) -> None:
    """Write the report; every name is escaped, names of nodes and traces come from elsewhere and may hold anything."""
    path.write_text(traffic_page(result), encoding="utf-8")


def traffic_page(result: TrafficResult) -> str:
    """The report as HTML text."""
    header, scored = result.header, [p for p in result.points if p.scores.intervals]
    maps = list(dict.fromkeys((ECMP, header.policy)))
    with styled():
        context = {
            "header": header,
            "result": result,
            "headline": result.headline,
            "sentence": traffic_sentence(result),
            "maps": traffic_charts.network_maps(result.links, maps, "maps") if scored else None,
            "life": traffic_charts.worst_over_time(result.worst, header, "life") if scored else None,
            "curve": traffic_charts.worst_against_changes(scored, "curve") if len(scored) > 1 else None,
        }
    return template("traffic.html.j2").render(context)


def traffic_sentence(result: TrafficResult) -> str:
    """What happened, in one sentence."""
    header, s = result.header, result.headline.scores
    name = "Forestall" if header.policy == FORESTALL else header.policy
    if not s.intervals:
        return f"{name} chose paths along {header.intervals:,} intervals; nothing was scored."
    text = f"With {name} the worst link was used {words.percent(s.mean_worst)} on average"
    return f"{text}, and more than it carries in {words.percent(s.over_share)} of intervals."
