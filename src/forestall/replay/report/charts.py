"""Charts of allocations: violations against slack, the life of exemplar VMs, the pool, churn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray
from forestall.replay.report.ink import ACCENT, FAINT, INK, MARKERS, PALETTE, inline_svg, percent_axis
from forestall.replay.report.words import LABELS, scaled
from forestall.replay.result import CurvePoint, Exemplar, PoolUse, Variant

DENSE = 4000
"""Lines with more points than this are drawn as pixels, to keep the page small."""
_TICKS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def violations_against_slack(points: Sequence[CurvePoint], name: str, budget: float | None) -> Markup:
    """Slack over violation share (logarithmic), a curve for each policy; lower left is better."""
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.subplots()
    floor = _floor(points)
    if budget:
        axes.axvline(budget, color=FAINT, linestyle=":", linewidth=1.4)
        axes.annotate(
            f"budget {100 * budget:g} %", (budget, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -10),
            textcoords="offset points", fontsize=9, color=FAINT,
        )  # fmt: skip
    for index, policy in enumerate(policies_of(points)):
        _curve(axes, [p for p in points if p.policy == policy], index, floor)
    axes.set_xscale("log")
    percent_axis(axes, tuple(t for t in _TICKS if t >= floor / 2))
    axes.set_xlim(floor / 1.6, None)
    axes.set_ylim(*_heights(points))
    _mark_above(axes, points, floor)
    axes.set_xlabel("VM-intervals in violation (logarithmic; the left edge holds those without any)")
    axes.set_ylabel("slack: allocated beyond demand ÷ demand")
    figure.legend(loc="outside right upper")
    resource = LABELS[points[0].resource]
    return inline_svg(figure, name, f"{resource}: slack against violation share for each policy")


class OfPolicy(Protocol):
    """What belongs to a policy in one of its settings."""

    @property
    def policy(self) -> str:
        """Its name."""
        ...

    @property
    def variant(self) -> Variant:
        """How it was set."""
        ...


def policies_of(points: Sequence[OfPolicy]) -> list[str]:
    """Policies, Forestall first and the oracle last, else by name."""
    rank = {Variant.FORESTALL: 0, Variant.ORACLE: 2}
    order = {p.policy: min(rank.get(p.variant, 1), 9) for p in points}
    return sorted(order, key=lambda policy: (order[policy], policy))


def _floor(points: Sequence[CurvePoint]) -> float:
    """Where points without a violation stand on the logarithmic axis."""
    shares = [p.scores.violation_share for p in points if p.scores.violation_share > 0]
    return max(min([*shares, 0.001]) / 2, 2e-5)


def _heights(points: Sequence[CurvePoint]) -> tuple[float, float]:
    """Slack shown: all of it, unless a few generous settings would squeeze the rest."""
    slack = np.array([p.scores.slack for p in points])
    slack = slack[np.isfinite(slack)]
    highest = max(float(slack.max(initial=0.0)), 0.05)
    most = float(np.quantile(slack, 0.85)) if len(slack) else highest
    top = 1.08 * highest if highest <= 2.5 * most or most <= 0 else 1.6 * most
    return min(-0.04 * top, float(slack.min(initial=0.0)) * 1.1), top


def _mark_above(axes: Axes, points: Sequence[CurvePoint], floor: float) -> None:
    """Name the shipped settings that lie above the frame, with their slack."""
    top = axes.get_ylim()[1]
    above = [p for p in points if p.variant is Variant.SHIPPED and p.scores.slack > top]
    for line, point in enumerate(sorted(above, key=lambda p: -p.scores.slack)):
        axes.annotate(
            f"↑ {point.policy}: {point.scores.slack:.1f}", (max(point.scores.violation_share, floor), top),
            xytext=(2, -12 - 13 * line), textcoords="offset points", fontsize=9, color=INK,
        )  # fmt: skip


def _curve(axes: Axes, points: list[CurvePoint], index: int, floor: float) -> None:
    """One policy: its curve, and its shipped setting as a larger hollow marker."""
    ours = any(p.variant is Variant.FORESTALL for p in points)
    oracle = any(p.variant is Variant.ORACLE for p in points)
    colour, marker = look({p.variant for p in points}, index)
    swept = sorted((p for p in points if p.variant is not Variant.SHIPPED), key=lambda p: p.scores.violation_share)
    shipped = [p for p in points if p.variant is Variant.SHIPPED]
    label = points[0].policy
    if swept:
        axes.plot(
            *_xy(swept, floor), color=colour, marker=marker, label=label, zorder=3 if ours else 2,
            markersize=12 if oracle else 5.5 if ours else 3.5, linewidth=2.8 if ours else 1.3,
            linestyle="none" if oracle else "-", clip_on=not oracle,
        )  # fmt: skip
    if shipped:
        axes.plot(
            *_xy(shipped, floor), color=colour, marker=marker, markersize=11, markeredgewidth=2,
            linestyle="none", markerfacecolor="none", label=None if swept else f"{label}, as shipped", zorder=4,
        )  # fmt: skip


def look(variants: Collection[Variant], index: int) -> tuple[str, str]:
    """Colour and marker of the policy at this position of :func:`policies_of`."""
    if Variant.FORESTALL in variants:
        return ACCENT, "o"
    if Variant.ORACLE in variants:
        return INK, "*"
    peer = index - 1
    return PALETTE[peer % len(PALETTE)], MARKERS[(peer + peer // len(PALETTE)) % len(MARKERS)]


def _xy(points: list[CurvePoint], floor: float) -> tuple[list[float], list[float]]:
    return [max(p.scores.violation_share, floor) for p in points], [p.scores.slack for p in points]


def vm_life(vm: Exemplar, name: str) -> Markup:
    """Demand, allocation, limit and the fan of quantiles of one VM."""
    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    axes = figure.subplots()
    hours = _hours(vm.times)
    dense = len(hours) > DENSE
    for low, high in _fan(vm.levels):
        axes.fill_between(
            hours, vm.quantiles[:, low], vm.quantiles[:, high], color="#56b4e9", alpha=0.22, linewidth=0,
            step="post", rasterized=dense,
        )  # fmt: skip
    axes.step(hours, vm.demand, where="post", color=INK, linewidth=1.1, label="demand", rasterized=dense)
    axes.step(hours, vm.allocated, where="post", color=ACCENT, linewidth=1.9, label="allocation", rasterized=dense)
    finite = np.where(np.isfinite(vm.limit), vm.limit, np.nan)
    violated = vm.demand > np.fmin(vm.allocated, vm.limit) + 1e-9
    axes.plot(hours[violated], vm.demand[violated], "x", color="#d55e00", markersize=6, label="violation")
    if not np.isnan(finite).all():
        axes.step(hours, finite, where="post", color=FAINT, linestyle="--", linewidth=1.2, label="limit")
    axes.set_ylim(0, None)
    _amounts(axes, vm.resource)
    axes.set_xlabel("hours")
    axes.margins(x=0.01)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
    return inline_svg(figure, name, f"{vm.group} VM: demand, allocation and limit over time")


def _fan(levels: tuple[float, ...]) -> list[tuple[int, int]]:
    """Pairs of positions of levels that make bands: outermost first, meeting at the median."""
    middle = len(levels) // 2
    pairs = [(i, len(levels) - 1 - i) for i in range(middle)]
    return pairs[:4]


def _hours(times: IntArray) -> FloatArray:
    return (times - times[0]) / 3600.0 if len(times) else np.zeros(0)


def _amounts(axes: Axes, resource: Resource) -> None:
    """Label the vertical axis in the resource's unit."""
    unit = {"cores": "cores", "bytes": "bytes", "bytes_per_s": "bytes/s"}[resource.unit]
    axes.set_ylabel(unit)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: scaled(value).strip()))


def pool_use(pool: PoolUse, name: str) -> Markup:
    """Capacity, promised, allocated and used of a host, and the price λ under it."""
    priced = not np.isnan(pool.price).all()
    figure = Figure(figsize=(8.4, 4.0 if priced else 3.0), layout="constrained")
    ratios = [2.6, 1.0] if priced else [1.0]
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    hours, axes = _hours(pool.times), panels[0]
    axes.fill_between(hours, pool.demand, color="#56b4e9", alpha=0.45, linewidth=0, step="post", label="demand")
    axes.step(hours, pool.allocated, where="post", color=ACCENT, linewidth=1.9, label="allocated")
    axes.step(hours, pool.limit_sum, where="post", color=FAINT, linestyle="--", linewidth=1.3, label="sum of limits")
    axes.axhline(pool.capacity, color="#d55e00", linewidth=1.6, label="capacity")
    axes.set_ylim(0, None)
    _amounts(axes, pool.resource)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
    if priced:
        panels[1].step(hours, pool.price, where="post", color="#cc79a7")
        panels[1].set_ylabel("price λ")
        panels[1].set_ylim(0, None)
    panels[-1].set_xlabel("hours")
    panels[-1].margins(x=0.01)
    return inline_svg(figure, name, "Pool: capacity, sum of limits, allocated and demand over time")


def churn_bars(points: Sequence[CurvePoint], name: str) -> Markup:
    """Changes and reversals per VM-hour, a bar for each policy."""
    figure = Figure(figsize=(8.4, 0.9 + 0.42 * len(points)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(points))
    changes = [p.scores.changes_per_vm_hour for p in points]
    undone = [p.scores.reversals_per_vm_hour for p in points]
    ours = [ACCENT if p.variant is Variant.FORESTALL else "#56b4e9" for p in points]
    axes.barh(rows, changes, height=0.62, color=ours)
    if any(undone):
        axes.barh(rows, undone, height=0.22, color="#d55e00", label="of these, taken back within 10 minutes")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    for row, value in zip(rows, changes, strict=True):
        axes.annotate(f"{value:.2f}", (value, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=10)
    axes.set_yticks(rows, [p.policy for p in points])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    axes.set_xlabel("changes per VM-hour")
    return inline_svg(figure, name, "Changes per VM-hour for each policy")
