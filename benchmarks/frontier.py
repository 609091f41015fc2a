"""Draw the picture of the README: slack over violations, Forestall beside the policies that people use today.

Usage: python benchmarks/frontier.py out/bitbrains/summary.json out/azure_avg/summary.json docs/images/frontier.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

SHOWN = {
    "forestall": ("Forestall", "#0057b8", 3.0),
    "gbm": ("boosted trees + conformal", "#7a7a7a", 1.4),
    "moving_max_1h": ("last hour's maximum", "#b08000", 1.4),
    "cloudscale": ("CloudScale", "#a04fa0", 1.4),
    "google_max": ("max(N-sigma, RC-like)", "#2c8a57", 1.4),
    "vpa": ("Kubernetes VPA", "#c0392b", 1.4),
    "autopilot": ("Autopilot", "#d97a2b", 1.4),
}


def draw(axes: Any, summary: dict[str, Any]) -> None:
    """One trace, CPU: every policy along its knob."""
    for name, (label, colour, width) in SHOWN.items():
        points = sorted(
            (100 * p["violation_share"], p["slack"])
            for p in summary["policies"]
            if p["policy"] == name and p["resource"] == "cpu" and p["variant"] != "shipped" and p["violation_share"]
        )
        inside = [(x, y) for x, y in points if 0.04 <= x <= 12]
        style = {"color": colour, "linewidth": width, "zorder": 3 if name == "forestall" else 2}
        axes.plot(*zip(*inside, strict=True), marker="o" if name == "forestall" else None, label=label, **style)
    axes.set(xscale="log", xlim=(0.08, 8), ylim=(0, 2.6), xlabel="VM-intervals in violation, %")
    axes.set_xticks([0.1, 0.5, 1, 5], ["0.1", "0.5", "1", "5"])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def main(paths: list[str]) -> None:
    """Draw the summaries side by side into the last path."""
    mpl.rcParams.update({"svg.hashsalt": "forestall", "font.size": 10, "svg.fonttype": "path"})
    *sources, target = paths
    figure, panels = pyplot.subplots(1, len(sources), figsize=(10, 3.6), sharey=True, layout="constrained")
    for axes, source in zip(panels, sources, strict=True):
        summary = json.loads(Path(source).read_text("utf-8"))
        draw(axes, summary)
        axes.set_title(f"{summary['header']['trace']}, CPU, 5 min ahead", fontsize=10)
    panels[0].set_ylabel("slack: allocated beyond demand ÷ demand")
    panels[-1].legend(frameon=False, fontsize=9)
    figure.savefig(target, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main(sys.argv[1:])
