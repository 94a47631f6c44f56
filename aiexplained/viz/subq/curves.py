"""Selectors as curves, each with its own color, dash and marker in every figure of the page."""

from __future__ import annotations

from functools import partial

from aiexplained.viz.curves import Style
from aiexplained.viz.curves import curves as draw
from aiexplained.viz.theme import PALETTE

STYLE: Style = {
    "dense": ("ink", "dashed", "x"),
    "oracle": (PALETTE["oracle"], "solid", "star"),
    "hash": (PALETTE["greedy"], "solid", "circle"),
    "learned hash": (PALETTE["greedy"], "solid", "circle"),
    "random hash": (PALETTE["greedy"], "dotted", "plus"),
    "indexer": (PALETTE["warning"], "dashdot", "triangle"),
    "block means": (PALETTE["computed"], "solid", "diamond"),
    "two levels": (PALETTE["retrieval"], "dotdash", "hex"),
    "centroids": (PALETTE["sorted"], "dotted", "inverted_triangle"),
    "window": (PALETTE["neutral"], "solid", "square"),
    "passage unread": (PALETTE["neutral"], "dotted", "dash"),
    "saving in work": ("ink", "dashed", "dash"),
    "ours": (PALETTE["reused"], "solid", "circle"),
    "the company": (PALETTE["computed"], "solid", "square"),
}
"""Look of each selector."""


curves = partial(draw, style=STYLE)
"""Curves of selectors, see :func:`aiexplained.viz.curves.curves`."""
