"""What the CacheWeaver figures share: names and colors of the orders, and calls into the script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import CustomJS

from aiexplained.viz.parts import call_rule, legend_above
from aiexplained.viz.theme import PALETTE

RULES = ("cacheweaver", "cacheweaver_view")
REUSED, COMPUTED = PALETTE["reused"], PALETTE["computed"]
COLORS = {
    "no cache": PALETTE["neutral"],
    "random": PALETTE["neutral"],
    "retrieval": PALETTE["retrieval"],
    "sorted": PALETTE["sorted"],
    "greedy": PALETTE["greedy"],
    "repaired": PALETTE["greedy"],
    "oracle": PALETTE["oracle"],
    "look-ahead": PALETTE["oracle"],
}
LABELS = {
    "no cache": "no cache",
    "random": "random order",
    "retrieval": "retrieval order",
    "sorted": "sorted by id",
    "greedy": "greedy walk",
    "repaired": "walk, popular tail",
    "oracle": "deepest path (oracle)",
    "look-ahead": "look-ahead oracle",
}


def call(name: str, args: Mapping[str, Any], tail: str = "") -> CustomJS:
    """A callback that hands its arguments to one function of the view script."""
    return call_rule("cacheweaver_view", name, args, tail)


def state_legend(plot: Any, **states: str) -> None:
    """Legend for boxes whose state is a column: ``reused=`` and ``computed=`` give the labels.

    A legend shows the first row of its glyph, which may be invisible; so it gets glyphs of its own,
    outside the ranges of the plot.
    """
    for state, label in states.items():
        hatch = {"hatch_pattern": "/", "hatch_color": "#ffffff"} if state == "computed" else {}
        plot.quad(
            left=[-2], right=[-1], bottom=[-2], top=[-1], fill_color=PALETTE[state],
            line_color=None, legend_label=label, **hatch,
        )  # fmt: skip
    legend_above(plot)
