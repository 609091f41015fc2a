"""Charts of lending: violations against what was lent, a few seconds of reservation and use, forecasts and trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from forestall.model.samples import FloatArray
from forestall.replay.burst.result import BurstPoint, PeakReliability, Stretch
from forestall.replay.report.charts import DENSE, look, policies_of
from forestall.replay.report.ink import ACCENT, FAINT, INK, inline_svg, percent_axis
from forestall.replay.report.probability_charts import diagonal
from forestall.replay.result import Variant
from forestall.replay.scores.lending import violated

MOST_VIOLATED = 0.4
"""Settings that violate more are of no use, and not shown."""
_TICKS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_USE, _VIOLATION, _FORECAST = "#56b4e9", "#d55e00", "#cc79a7"


def lent_against_violations(points: Sequence[BurstPoint], budgets: Sequence[float], name: str) -> Markup:
    """Share of idle time lent over violation share (logarithmic), a curve for each policy; upper left is better."""
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.subplots()
    points = [p for p in points if np.isfinite(p.scores.lent_share)]
    floor = _floor(points)
    for budget in budgets:
        axes.axvline(budget, color=FAINT, linestyle=":", linewidth=1.4)
        axes.annotate(
            f"{100 * budget:g} %", (budget, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -10),
            textcoords="offset points", fontsize=9, color=FAINT,
        )  # fmt: skip
    for index, policy in enumerate(policies_of(points)):
        _curve(axes, [p for p in points if p.policy == policy], index, floor)
    axes.set_xscale("log")
    percent_axis(axes, tuple(t for t in _TICKS if t >= floor / 2))
    percent_axis(axes, tuple(float(share) for share in np.arange(0, 11) / 10), "y")
    axes.set_xlim(floor / 1.6, MOST_VIOLATED)
    axes.set_ylim(_bottom(points, budgets), 1.03)
    axes.set_xlabel("windows violated (logarithmic; the left edge holds those without any)")
    axes.set_ylabel("idle core time that was lent")
    figure.legend(loc="outside right upper")
    return inline_svg(figure, name, "Share of idle core time lent against violation share for each policy")


def _floor(points: Sequence[BurstPoint]) -> float:
    """Where points without a violation stand on the logarithmic axis."""
    shares = [p.scores.violation_share for p in points if p.scores.violation_share > 0]
    return max(min([*shares, 0.001]) / 2, 2e-5)


def _bottom(points: Sequence[BurstPoint], budgets: Sequence[float]) -> float:
    """Least share that is shown: a few settings that lend little would squeeze the rest."""
    of_use = [p.scores.lent_share for p in points if min(budgets) / 2 <= p.scores.violation_share <= MOST_VIOLATED]
    return max(float(np.quantile(of_use, 0.1)) - 0.1, 0.0) if of_use else 0.0


def _curve(axes: Axes, points: list[BurstPoint], index: int, floor: float) -> None:
    """One policy: its curve, and its shipped setting as a larger hollow marker."""
    variants = {p.variant for p in points}
    colour, marker = look(variants, index)
    ours, oracle = Variant.FORESTALL in variants, Variant.ORACLE in variants
    curve = sorted(points, key=lambda p: (p.scores.violation_share, p.scores.lent_share))
    axes.plot(
        *_xy(curve, floor), color=colour, marker=marker, label=points[0].policy, zorder=5 if ours else 2,
        markersize=9 if oracle else 9 if ours else 3, linewidth=2.8 if ours else 1.1,
        linestyle=":" if oracle else "-", clip_on=not oracle,
    )  # fmt: skip
    axes.plot(
        *_xy([p for p in points if p.variant is Variant.SHIPPED], floor), color=colour, marker=marker, markersize=10,
        markeredgewidth=1.8, linestyle="none", markerfacecolor="none", zorder=4,
    )  # fmt: skip


def _xy(points: list[BurstPoint], floor: float) -> tuple[list[float], list[float]]:
    return [max(p.scores.violation_share, floor) for p in points], [p.scores.lent_share for p in points]


def seconds_of(stretch: Stretch, name: str) -> Markup:
    """Use, what was reserved, what was forecast, and the windows that were violated."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    axes = figure.subplots()
    decisions, per_decision = stretch.use.shape
    starts = stretch.start_s + np.arange(decisions, dtype=np.float64) * stretch.window_s
    fine = stretch.start_s + np.arange(stretch.use.size, dtype=np.float64) * stretch.window_s / per_decision
    dense = len(fine) > DENSE
    bad = violated(stretch.use[:, :, None], stretch.reserved[:, None])[:, 0]
    for start in starts[bad]:
        axes.axvspan(start, start + stretch.window_s, color=_VIOLATION, alpha=0.28, linewidth=0)
    axes.fill_between(
        *_steps(fine, stretch.use.ravel(), stretch.window_s / per_decision), color=_USE, alpha=0.5, linewidth=0,
        label="used", rasterized=dense,
    )  # fmt: skip
    for value, style, label in ((stretch.high, "--", "forecast, 99 %"), (stretch.median, ":", "forecast, median")):
        if not np.isnan(value).all():
            axes.plot(*_steps(starts, value, stretch.window_s), color=_FORECAST, linestyle=style, linewidth=1.5,
                      label=label)  # fmt: skip
    axes.plot(*_steps(starts, stretch.reserved, stretch.window_s), color=ACCENT, linewidth=1.9, label="reserved")
    if bad.any():
        axes.fill_between([], [], color=_VIOLATION, alpha=0.28, label="violated")
    axes.set_ylim(0, _top(stretch))
    axes.set_xlim(starts[0], starts[-1] + stretch.window_s)
    axes.set_xlabel("seconds from the start of the trace")
    axes.set_ylabel("cores")
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.2, fontsize=9, columnspacing=1.2,
        handlelength=1.5,
    )  # fmt: skip
    return inline_svg(figure, name, f"{stretch.vm_id or 'Pool'}: cores used, reserved and forecast over some seconds")


def _steps(starts: FloatArray, values: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
    """A line that is level from each start to the next."""
    ends = np.append(starts, starts[-1] + width)
    return np.repeat(ends, 2)[1:-1], np.repeat(values, 2)


def _top(stretch: Stretch) -> float:
    """Height of the frame: use and reservations, unless a few wide ones would squeeze the rest."""
    usual = float(np.nanmax([stretch.use.max(), np.nanquantile(stretch.reserved, 0.9), 0.05]))
    return 1.06 * min(max(float(np.nanmax(stretch.reserved)), usual), 2.0 * usual)


def peak_reliability(rows: Sequence[PeakReliability], name: str) -> Markup:
    """Share of peaks above each quantile over the share that should be."""
    figure = Figure(figsize=(5.0, 4.2), layout="constrained")
    axes = figure.subplots()
    floor = min(1 - max(row.levels[-1] for row in rows), 0.001) / 2
    ends = (floor, 1.0)
    diagonal(axes, ends)
    for row in rows:
        asked = 1.0 - np.asarray(row.levels)
        came = np.maximum(1.0 - np.asarray(row.observed), floor)
        axes.plot(asked, came, color=ACCENT, marker="o", linewidth=2.0, label=f"peaks of the {row.of}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for which in ("x", "y"):
        percent_axis(axes, tuple(t for t in _TICKS if t >= floor), which)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_xlabel("share of peaks above, as forecast")
    axes.set_ylabel("as it came")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return inline_svg(figure, name, "Share of peaks above each quantile, as forecast and as it came")


def trust_bars(experts: Mapping[str, float], name: str) -> Markup:
    """Trust in each expert, a bar for each."""
    figure = Figure(figsize=(5.0, 0.9 + 0.42 * len(experts)), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(experts.items(), key=lambda item: -item[1])
    rows = np.arange(len(ordered))
    axes.barh(rows, [share for _, share in ordered], height=0.62, color=_USE)
    for row, (_, share) in zip(rows, ordered, strict=True):
        axes.annotate(f"{100 * share:.0f} %", (share, row), xytext=(4, 0), textcoords="offset points", va="center",
                      fontsize=10, color=INK)  # fmt: skip
    axes.set_yticks(rows, [expert.replace("_", " ") for expert, _ in ordered])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.12 * max(share for _, share in ordered))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_xlabel("trust, mean over quantile levels")
    return inline_svg(figure, name, "Trust in each expert")
