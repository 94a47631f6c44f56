"""Looks of the curves and marks on the page, the same name in the same look in every figure."""

from __future__ import annotations

from functools import partial

from aiexplained.viz.curves import Style
from aiexplained.viz.curves import curves as draw
from aiexplained.viz.theme import PALETTE

STYLE: Style = {
    "full, trained on": ("ink", "dashed", "x"),
    "ternary, trained on": (PALETTE["greedy"], "solid", "circle"),
    "ternary, from nothing": (PALETTE["computed"], "solid", "square"),
    "Mamba-2": (PALETTE["greedy"], "solid", "circle"),
    "transformer": (PALETTE["computed"], "solid", "square"),
    "16 bits": (PALETTE["neutral"], "solid", "square"),
    "ternary": (PALETTE["greedy"], "solid", "circle"),
    "rounded": (PALETTE["warning"], "solid", "triangle"),
    "trained": (PALETTE["greedy"], "solid", "circle"),
}

curves = partial(draw, style=STYLE)
"""Curves of the page, see :func:`aiexplained.viz.curves.curves`."""
