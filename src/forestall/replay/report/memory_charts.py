"""Charts of staged guest memory: touches served against precision, and over the trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from forestall.model.samples import FloatArray
from forestall.replay.memory.result import MemoryPoint
from forestall.replay.report.charts import look, policies_of
from forestall.replay.report.ink import ACCENT, PALETTE, inline_svg, percent_axis
from forestall.replay.result import Variant

_SHARES = tuple(float(share) for share in np.arange(0, 6) / 5)


def served_against_precision(points: Sequence[MemoryPoint], name: str) -> Markup:
    """Share of touches that were served over the share of staged pages that were touched; upper right is better."""
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.subplots()
    points = [p for p in points if p.scores.staged]
    for index, policy in enumerate(policies_of(points)):
        mine = [p for p in points if p.policy == policy]
        colour, marker = look({p.variant for p in mine}, index)
        ours = any(p.variant is Variant.FORESTALL for p in mine)
        axes.plot(
            [p.scores.precision for p in mine], [p.scores.coverage for p in mine], color=colour, marker=marker,
            label=policy, markersize=11 if ours else 7, linestyle="none", zorder=5 if ours else 2,
        )  # fmt: skip
    for which in ("x", "y"):
        percent_axis(axes, _SHARES, which)
    axes.set_xlim(-0.02, 1.03)
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlabel("staged pages that were touched")
    axes.set_ylabel("first touches that were served")
    figure.legend(loc="outside right upper")
    return inline_svg(figure, name, "Share of first touches served against precision for each policy")


def served_over_time(in_time: Mapping[str, FloatArray], first: int, touches: int, name: str) -> Markup:
    """Share of touches that were served, over the scored part of the trace."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    axes = figure.subplots()
    for index, (policy, share) in enumerate(in_time.items()):
        at = first + (np.arange(len(share)) + 0.5) * (touches - first) / max(len(share), 1)
        ours = policy == "forestall"
        colour = ACCENT if ours else PALETTE[index % len(PALETTE)]
        axes.plot(at, share, color=colour, linewidth=2.2 if ours else 1.3, label=policy)
    percent_axis(axes, _SHARES, "y")
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("first touches from the start of the trace")
    axes.set_ylabel("served from staging")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
    return inline_svg(figure, name, "Share of first touches served over the trace")
