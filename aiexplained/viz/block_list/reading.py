"""The map of which key blocks each query block reads, over where a head's attention lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import CDSView, ColumnDataSource, GroupFilter, Range1d
from numpy.typing import ArrayLike

from aiexplained.viz.block_list.style import (
    OURS,
    THEIRS,
)
from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice, index_slider
from aiexplained.viz.parts import HATCH, follow_title, title_source
from aiexplained.viz.theme import figure, follow_theme

NOT_READ, CUT, WHOLE = range(3)
"""What becomes of a pair of blocks: not read, read and masked inside, or read whole."""

SIDE, MARK = 0.94, 0.8
"""Sides of a block in the map and of the mark for all attention; the rest is a gap or a rim."""


def block_map(
    visible: ArrayLike,
    kept: ArrayLike,
    attention: ArrayLike,
    *,
    heads: Sequence[str],
    kinds: Sequence[str],
    budgets: Sequence[int],
    sinks: Sequence[int],
    first: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Explorable:
    """Query blocks against key blocks: what is read, and where the head's attention lies.

    Args:
        visible: Share of the pairs of a query and a key that are visible in each pair of blocks,
            0 to 1: ``(heads, kinds, budgets, sinks, N, N)``.
        kept: Attention of each query block that lies in what is read, in percent:
            ``(heads, kinds, budgets, sinks, N)``.
        attention: Attention of each query block to each key block, ``(heads, N, N)``; rows sum
            to 1.
        heads: Where each head looks.
        kinds: How the lists are made.
        budgets: Blocks that a list may name besides the own block.
        sinks: Sink tokens.
        first: Positions of the four controls at the start.
    """
    share, kept = np.asarray(visible), np.asarray(kept)
    n = share.shape[-1]
    query, key = np.tril_indices(n)
    states = np.where(share >= 1, WHOLE, np.where(share > 0, CUT, NOT_READ))[..., query, key]
    controls = [
        choice("A head that looks", heads, first[0]),
        choice("How the lists are made", kinds, first[1]),
        index_slider("Key blocks on a list besides its own", budgets, first[2]),
        index_slider("Sink tokens, which everybody reads", sinks, first[3]),
    ]
    cells = ColumnDataSource({"query": query, "key": key}, name="aix-cells")
    marks = ColumnDataSource({"query": query, "key": key}, name="aix-attention")
    rows = ColumnDataSource({"block": np.arange(n)})
    titles, alts = _findings(states, kept, (heads, kinds, budgets, sinks))
    title, caption = title_source(titles[first]), alt_source(alts[first])
    area = np.asarray(attention)[:, query, key]
    bind_grid(controls[:1], {marks: {"side": MARK * np.sqrt(area)}})
    counts = {
        "whole": _by_row(states == WHOLE, query, n), "cut": _by_row(states == CUT, query, n),
        "kept": np.round(kept, 1),
    }  # fmt: skip
    bind_grid(
        controls,
        {cells: {"state": states}, rows: counts, title: {"title": titles[..., None]}},
        alt=caption,
        alts=alts,
    )
    data_table(
        rows, "What each query block reads",
        {
            "block": "query block", "whole": "key blocks read whole", "cut": "read in part",
            "kept": "attention inside (%)",
        },
    )  # fmt: skip
    plot = _map(cells, marks, n)
    follow_title(plot, title)
    return show(column(*controls, plot), alt=caption)


def _by_row(cells: np.ndarray, query: np.ndarray, n: int) -> np.ndarray:
    """Number of true cells in each row of the map; cells are on the last axis."""
    return np.stack([cells[..., query == row].sum(axis=-1) for row in range(n)], axis=-1)


def _findings(
    states: np.ndarray, kept: np.ndarray, labels: tuple[Sequence[object], ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The title and the text alternative in every state of the controls."""
    titles, alts = (np.empty(states.shape[:-1], dtype=object) for _ in range(2))
    every = states.shape[-1]
    for at in np.ndindex(titles.shape):
        head, kind, budget, sinks = (names[i] for names, i in zip(labels, at, strict=True))
        whole, cut = ((states[at] == state).sum() for state in (WHOLE, CUT))
        read, found = whole + cut, f"{kept[at].mean():.0f} %"
        titles[at] = f"{read} of {every} blocks are read, with {found} of the attention"
        also = f" and {sinks} sink tokens" if sinks else ""
        blocks = f"{budget} key block{'s' * (budget != 1)}"
        alts[at] = (
            f"{kind}: {blocks} besides its own block{also}, for a head that looks {head}. {whole} "
            f"pairs of blocks are read whole, {cut} are read and masked inside, {every - read} are "
            f"not read ({100 * read / every:.0f} % of the work of dense attention). What is read "
            f"holds {found} of the head's attention, between {kept[at].min():.0f} and "
            f"{kept[at].max():.0f} % by query block."
        )
    return titles, alts


def _map(cells: ColumnDataSource, marks: ColumnDataSource, n: int) -> Any:
    plot = figure(
        " ", height=470, x_range=Range1d(-0.5, n - 0.5), y_range=Range1d(n - 0.5, -0.5),
        x_axis_label="key block", y_axis_label="query block",
    )  # fmt: skip
    plot.grid.visible = False
    box = {"x": "key", "y": "query", "source": cells, "width": SIDE, "height": SIDE}
    every = plot.rect(**box, line_color=None)
    follow_theme(every.glyph, fill_color="line")
    for state, color, hatch in ((WHOLE, OURS, {}), (CUT, THEIRS, HATCH)):
        view = CDSView(filter=GroupFilter(column_name="state", group=state))
        plot.rect(**box, view=view, fill_color=color, line_color=None, **hatch)
    mass = plot.rect("key", "query", width="side", height="side", source=marks, line_color=None)
    follow_theme(mass.glyph, fill_color="ink")
    away = {"left": [n + 1], "right": [n + 2], "bottom": [n + 1], "top": [n + 2]}
    for label, look, role in (
        ("read whole", {"fill_color": OURS}, ""),
        ("read, masked inside", {"fill_color": THEIRS, **HATCH}, ""),
        ("not read", {}, "line"),
        ("attention, by area", {}, "ink"),
    ):
        # A legend shows the first row of its glyph: these stand outside the plot's ranges.
        drawn = plot.quad(**away, line_color=None, legend_label=label, **look)
        if role:
            follow_theme(drawn.glyph, fill_color=role)
    # Nobody reads the future: the corner is free.
    plot.legend[0].update(location="top_right", padding=0, margin=0, border_line_color=None)
    return plot
