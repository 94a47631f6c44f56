"""How the routers look in every figure of the page."""

from __future__ import annotations

from functools import partial

from aiexplained.viz.curves import Style, View
from aiexplained.viz.curves import curves as draw
from aiexplained.viz.theme import PALETTE

__all__ = ["STYLE", "View", "curves"]

STYLE: Style = {
    "hard": ("ink", "dashed", "square"),
    "soft": (PALETTE["greedy"], "solid", "circle"),
    "learned": (PALETTE["reused"], "dotted", "diamond"),
    "always two": (PALETTE["computed"], "solid", "triangle"),
    "cooled": (PALETTE["warning"], "solid", "x"),
    "ReLU": (PALETTE["sorted"], "solid", "plus"),
    "told": (PALETTE["neutral"], "solid", "star"),
    "budget 2": (PALETTE["greedy"], "solid", "circle"),
    "budget 1.5": (PALETTE["computed"], "solid", "triangle"),
}
"""Routers: hard and soft top-k; soft with learned budgets, with exactly two experts, cooled as in
the source, and with two budgets; ReLU routing; and one that is told what to run."""

curves = partial(draw, style=STYLE)
"""Curves of the page, see :func:`aiexplained.viz.curves.curves`."""
