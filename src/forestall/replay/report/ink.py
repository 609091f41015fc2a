"""How charts look, and how a figure becomes inline SVG that follows the page's light or dark style.

Text, grid and the accent are drawn in marker colours that are replaced by CSS variables; the other colours
are those of Okabe & Ito, which people with any colour vision tell apart, on light and on dark.
"""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

INK, GRID, ACCENT, FAINT = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {INK: "var(--ink)", GRID: "var(--rule)", ACCENT: "var(--accent)", FAINT: "var(--faint)"}
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#8c8c8c", "#a6761d", "#7570b3", "#a8456f")
"""Colours of the peers, in order."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
"""Markers of the peers, in order: colour is never the only difference."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "forestall",
    "font.family": "sans-serif",
    "font.size": 11.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "figure.dpi": 96,
    "savefig.dpi": 144,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "lines.linewidth": 1.6,
}
"""Matplotlib settings for every chart; nothing is parsed as mathematics, so any name can be shown."""


def styled() -> AbstractContextManager[None]:
    """Context in which figures are made and drawn."""
    return rc_context(STYLE)


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Draw a figure as an ``svg`` element.

    Parameters
    ----------
    name
        Prefix of every id inside, unique in the page.
    description
        What the chart shows, for people who do not see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    label = Markup('<svg role="img" aria-label="{}"').format(description)
    return Markup(text.replace("<svg", str(label), 1))


def percent_axis(axes: Axes, shares: tuple[float, ...], which: str = "x") -> None:
    """Ticks at the given shares, labelled in per cent."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(list(shares)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
