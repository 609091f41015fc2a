"""Charts of prefetching: misses removed against what was fetched in vain, misses over the trace, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from forestall.model.samples import FloatArray
from forestall.replay.access.result import AccessPoint, Calibration
from forestall.replay.report.charts import look, policies_of
from forestall.replay.report.ink import ACCENT, FAINT, INK, PALETTE, inline_svg, percent_axis
from forestall.replay.report.probability_charts import diagonal
from forestall.replay.result import Variant

_SHARES = tuple(float(share) for share in np.arange(0, 6) / 5)


def removed_against_waste(points: Sequence[AccessPoint], name: str) -> Markup:
    """Share of misses removed over prefetches in vain for each access; upper left is better."""
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.subplots()
    points = [p for p in points if p.scores.accesses and np.isfinite(p.scores.removed_share)]
    for index, policy in enumerate(policies_of(points)):
        mine = sorted((p for p in points if p.policy == policy), key=_waste)
        colour, marker = look({p.variant for p in mine}, index)
        ours = any(p.variant is Variant.FORESTALL for p in mine)
        axes.plot(
            [_waste(p) for p in mine], [p.scores.removed_share for p in mine], color=colour, marker=marker,
            label=policy, markersize=10 if ours else 6, linewidth=1.1, zorder=5 if ours else 2,
        )  # fmt: skip
    axes.axhline(0.0, color=FAINT, linewidth=1.2)
    removed = [p.scores.removed_share for p in points]
    axes.set_ylim(max(min([*removed, 0.0]) - 0.05, -1.0), 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_xlabel("prefetches in vain, for each access")
    axes.set_ylabel("misses of a plain cache that are gone")
    figure.legend(loc="outside right upper")
    return inline_svg(figure, name, "Share of misses removed against prefetches in vain for each policy")


def _waste(point: AccessPoint) -> float:
    return (point.scores.issued - point.scores.used) / max(point.scores.accesses, 1)


def misses_over_time(missed: Mapping[str, FloatArray], first: int, accesses: int, name: str) -> Markup:
    """Share of accesses that miss, over the scored part of the trace."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    axes = figure.subplots()
    for index, (policy, share) in enumerate(missed.items()):
        at = first + (np.arange(len(share)) + 0.5) * (accesses - first) / max(len(share), 1)
        ours = policy == "forestall"
        colour = ACCENT if ours else PALETTE[index % len(PALETTE)]
        axes.plot(at, share, color=colour, linewidth=2.2 if ours else 1.3, label=policy)
    percent_axis(axes, _SHARES, "y")
    axes.set_ylim(0, None)
    axes.set_xlabel("accesses from the start of the trace")
    axes.set_ylabel("accesses that missed")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
    return inline_svg(figure, name, "Share of accesses that missed over the trace")


def stated_and_used(calibration: Calibration, name: str) -> Markup:
    """Share of prefetches that were used over the probability that was stated."""
    figure = Figure(figsize=(5.0, 4.2), layout="constrained")
    axes = figure.subplots()
    diagonal(axes, (0.0, 1.0))
    axes.plot(calibration.stated, calibration.used, color=ACCENT, marker="o", linewidth=2.0, label="what was staged")
    for stated, used, count in zip(calibration.stated, calibration.used, calibration.count, strict=True):
        axes.annotate(f"{count:,}", (stated, used), xytext=(5, -10), textcoords="offset points", fontsize=8, color=INK)
    percent_axis(axes, _SHARES)
    percent_axis(axes, _SHARES, "y")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("probability of use, as stated")
    axes.set_ylabel("share that was used")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return inline_svg(figure, name, "Share of prefetches that were used over the stated probability")
