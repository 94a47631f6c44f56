"""Looks of the curves and marks on the page, the same name in the same look in every figure."""

from __future__ import annotations

from functools import partial

from aiexplained.viz.curves import Style
from aiexplained.viz.curves import curves as draw
from aiexplained.viz.theme import PALETTE

STYLE: Style = {
    "full precision": ("ink", "dashed", "x"),
    "rounded in the loop": (PALETTE["greedy"], "solid", "circle"),
    "the same, from nothing": (PALETTE["computed"], "solid", "square"),
    "learned from the teacher": (PALETTE["greedy"], "solid", "circle"),
    "learned from labels alone": (PALETTE["computed"], "solid", "square"),
    "no rounding": ("ink", "dashed", "x"),
    "Mamba-2": (PALETTE["greedy"], "solid", "circle"),
    "transformer": (PALETTE["computed"], "solid", "square"),
    "16 bits": (PALETTE["neutral"], "solid", "square"),
    "ternary": (PALETTE["greedy"], "solid", "circle"),
    "rounded": (PALETTE["warning"], "solid", "triangle"),
    "trained": (PALETTE["greedy"], "solid", "circle"),
}

curves = partial(draw, style=STYLE)
"""Curves of the page, see :func:`aiexplained.viz.curves.curves`."""
