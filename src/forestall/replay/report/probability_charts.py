"""Charts of calibration: what was promised against what happened, for quantiles and for risk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from forestall.replay.report.ink import ACCENT, FAINT, MARKERS, PALETTE, inline_svg, percent_axis
from forestall.replay.report.words import duration
from forestall.replay.result import CurvePoint, Reliability, RiskResult

_BUDGETS = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def budget_kept(points: Sequence[CurvePoint], name: str) -> Markup:
    """Measured violation share over the budget asked for: all VMs, and the VM at the 95th percentile."""
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = figure.subplots()
    points = sorted(points, key=lambda p: p.scores.budget)
    asked = np.array([p.scores.budget for p in points])
    measured = np.array([p.scores.violation_share for p in points])
    spread = np.array([p.scores.p95_vm_share for p in points])
    floor = float(asked.min()) / 5
    axes.plot(asked, np.maximum(measured, floor), color=ACCENT, marker="o", linewidth=2.4, label="all VMs together")
    axes.plot(asked, np.maximum(spread, floor), color="#e69f00", marker="s", label="VM at the 95th percentile")
    values = np.concatenate([asked, measured, spread, [floor]])
    ends = (floor, float(np.nanmax(values)) * 1.5)
    diagonal(axes, ends)
    axes.set_xscale("log")
    axes.set_yscale("log")
    percent_axis(axes, tuple(t for t in _BUDGETS if floor <= t <= ends[1] and t in _ROUND), "y")
    percent_axis(axes, tuple(sorted(set(asked.tolist()))))
    axes.set_xlim(asked.min() / 1.6, asked.max() * 1.6)
    axes.set_ylim(*ends)
    axes.set_xlabel("budget asked for")
    axes.set_ylabel("share of intervals in violation")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return inline_svg(figure, name, "Violation share measured over the budget asked for")


_ROUND = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5)


def quantile_reliability(rows: Sequence[Reliability], name: str) -> Markup:
    """Observed share at or below each quantile minus its level, one line for each kind of VM."""
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0.0, color=FAINT, linestyle="--", linewidth=1.3)
    for index, row in enumerate(rows):
        gap = np.asarray(row.observed) - np.asarray(row.levels)
        axes.plot(
            np.arange(len(gap)), gap, color=PALETTE[index % len(PALETTE)],
            marker=MARKERS[index % len(MARKERS)], markersize=5, label=f"{row.group}, {row.horizon_steps} ahead",
        )  # fmt: skip
    levels = rows[0].levels
    axes.set_xticks(range(len(levels)), [f"{level:g}".lstrip("0") for level in levels], rotation=60)
    limit = max(0.05, 1.3 * max(abs(a - b) for r in rows for a, b in zip(r.observed, r.levels, strict=True)))
    axes.set_ylim(-limit, limit)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f} pp" if value else "exact")
    axes.set_xlabel("quantile level")
    axes.set_ylabel("observed share − level")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return inline_svg(figure, name, "Observed coverage minus quantile level for each kind of VM")


def risk_reliability(risks: Sequence[RiskResult], name: str) -> Markup | None:
    """Observed frequency over stated probability in bins of equal mass, one line a horizon; None without events."""
    stated = [v for r in risks for b in r.scores.reliability if b.observed > 0 for v in (b.stated, b.observed)]
    if not stated:
        return None
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    floor = max(min([p for p in stated if p > 0], default=1e-3) / 2, 1e-6)
    for index, risk in enumerate(risks):
        bins = [b for b in risk.scores.reliability if b.observed > 0]
        axes.plot(
            [max(b.stated, floor) for b in bins], [b.observed for b in bins],
            color=PALETTE[index % len(PALETTE)], marker=MARKERS[index % len(MARKERS)], markersize=5,
            label=f"within {duration(risk.horizon_seconds)}",
        )  # fmt: skip
    ends = (floor / 1.5, 1.4)
    diagonal(axes, ends)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = tuple(t for t in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0) if t >= ends[0])
    percent_axis(axes, ticks)
    percent_axis(axes, ticks, "y")
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_xlabel("probability stated")
    axes.set_ylabel("share that exceeded the limit")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return inline_svg(figure, name, "Share that exceeded the limit over the probability stated")


def diagonal(axes: Axes, ends: tuple[float, float]) -> None:
    """The line on which promises are kept exactly."""
    axes.plot(ends, ends, color=FAINT, linestyle="--", linewidth=1.3, label="exactly as promised")
