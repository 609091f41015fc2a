"""Charts of traffic: the network with its links coloured, the worst link over time, and policies side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx  # type: ignore[import-untyped]
import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from forestall.fabric.network import Network
from forestall.model.samples import FloatArray
from forestall.replay.report.charts import look, policies_of
from forestall.replay.report.ink import ACCENT, FAINT, INK, PALETTE, inline_svg
from forestall.replay.result import Variant
from forestall.replay.traffic.result import LinkUse, TrafficHeader, TrafficPoint

COLOURS = "viridis_r"
MOST_NAMED, MOST_LAID_OUT = 40, 150
MOST_POINTS = 1_200


def network_maps(links: LinkUse, policies: Sequence[str], name: str) -> Markup:
    """The network once for each policy; a link is coloured by the direction that is used more."""
    figure = Figure(figsize=(4.4 * len(policies), 4.4), layout="constrained")
    network, place = links.network, places(links.network)
    most = max(1.0, *(float(links.use[policy].max(initial=0.0)) for policy in policies))
    scale, colours = Normalize(0.0, most), colormaps[COLOURS]
    panels = np.atleast_1d(figure.subplots(1, len(policies)))
    for axes, policy in zip(panels, policies, strict=True):
        use = links.use[policy]
        for (a, b), link in sorted(network.link.items()):
            back = network.link.get((b, a), link)
            if a < b or back == link:
                ratio = float(max(use[link], use[back]))
                (x, y), (u, v) = place[a], place[b]
                axes.plot((x, u), (y, v), color=colours(scale(ratio)), linewidth=1.0 + 4.0 * min(ratio, 1.0), zorder=1)
        axes.scatter(*zip(*place, strict=True), s=28, color=FAINT, edgecolors=INK, zorder=2)
        if len(network.nodes) <= MOST_NAMED:
            for node, (x, y) in zip(network.nodes, place, strict=True):
                axes.annotate(node[:12], (x, y), (3, 3), textcoords="offset points", fontsize=8)
        axes.set_title(f"{policy}: worst {100 * float(use.max(initial=0.0)):.0f} %", fontsize=11)
        axes.set_axis_off()
    bar = figure.colorbar(
        ScalarMappable(scale, colours), ax=list(panels), shrink=0.7, format=lambda value, _: f"{100 * value:g} %"
    )
    bar.set_label("utilisation of a link")
    told = ", ".join(f"{policy} {100 * float(links.use[policy].max(initial=0.0)):.0f} %" for policy in policies)
    return inline_svg(figure, name, f"The network with its links coloured by utilisation; worst link: {told}")


def places(network: Network) -> list[tuple[float, float]]:
    """Where each node is drawn; the same for the same network."""
    graph = nx.Graph()
    graph.add_nodes_from(range(len(network.nodes)))
    graph.add_edges_from(network.link)
    small = len(network.nodes) <= MOST_LAID_OUT and nx.is_connected(graph)
    found = nx.kamada_kawai_layout(graph) if small else nx.circular_layout(graph)
    return [(float(found[node][0]), float(found[node][1])) for node in range(len(network.nodes))]


def worst_over_time(worst: Mapping[str, FloatArray], header: TrafficHeader, name: str) -> Markup:
    """Utilisation of the worst link, over the scored part of the trace."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for index, (policy, ratio) in enumerate(worst.items()):
        ours = policy == "forestall"
        parts = np.array_split(ratio, min(MOST_POINTS, max(len(ratio), 1)))
        days = np.cumsum([len(part) for part in parts]) * header.step_seconds / 86_400
        highest = [float(np.nanmax(part)) if np.isfinite(part).any() else float("nan") for part in parts]
        axes.plot(
            days, highest, color=ACCENT if ours else PALETTE[index % len(PALETTE)], linewidth=1.6 if ours else 1.0,
            label=policy, zorder=5 if ours else 2, alpha=1.0 if ours else 0.8,
        )  # fmt: skip
    axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(0.0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_xlabel("days from the first interval that is scored")
    axes.set_ylabel("worst link")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
    return inline_svg(figure, name, "Utilisation of the worst link over the trace")


def worst_against_changes(points: Sequence[TrafficPoint], name: str) -> Markup:
    """Mean utilisation of the worst link over rule changes; lower left is better."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for index, policy in enumerate(policies_of(points)):
        mine = [p for p in points if p.policy == policy]
        colour, marker = look({p.variant for p in mine}, index)
        ours = any(p.variant is Variant.FORESTALL for p in mine)
        axes.plot(
            [p.scores.changes for p in mine], [p.scores.mean_worst for p in mine], color=colour, marker=marker,
            label=policy, markersize=11 if ours else 7, linestyle="none", zorder=5 if ours else 2,
        )  # fmt: skip
    axes.set_xscale("symlog", linthresh=1.0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(-0.1)
    axes.set_ylim(0.0)
    axes.set_xlabel("rules in switches that change, an interval")
    axes.set_ylabel("mean utilisation of the worst link")
    figure.legend(loc="outside right upper")
    return inline_svg(figure, name, "Mean utilisation of the worst link against rule changes for each policy")
