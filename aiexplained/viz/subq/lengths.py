"""How the work grows with the text: a triangle of all pairs, and the band that a budget leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, FixedTicker, Range1d

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, index_slider
from aiexplained.viz.parts import follow_title, title_source
from aiexplained.viz.theme import PALETTE, figure, follow_theme

LINES = (
    ("dense", "all pairs", PALETTE["neutral"], "dashed"),
    ("sparse", "fixed budget", PALETTE["greedy"], "solid"),
    ("indexer", "budget + indexer", PALETTE["computed"], "dotdash"),
)
"""Curves of the right half: key of a row, label, color and dash."""


def length_law(
    rows: Sequence[Mapping[str, float]],
    printed: Sequence[tuple[int, float]],
    *,
    budget: int,
    at: int,
) -> Explorable:
    """Drag the length: the band of a fixed budget thins out in the triangle of all pairs.

    Args:
        rows: For each length ``n_tokens``, and the work for one token as multiples of the budget:
            ``dense``, ``sparse``, and ``indexer``, the budget plus an indexer over all pairs;
            ``ratio`` is pairs of dense attention over pairs read.
        printed: Lengths and ratios in the company's table.
        budget: Keys that a query reads.
        at: Position of the length at the start.
    """
    lengths = [int(r["n_tokens"]) for r in rows]
    slider = index_slider("Tokens in the text", [f"{n:,}" for n in lengths], at)
    titles = [_headline(r, budget) for r in rows]
    alts = [_told(r, budget) for r in rows]
    title, caption = title_source(titles[at]), alt_source(alts[at])
    corners = np.array([_band(min(budget / n, 1.0)) for n in lengths])
    band = ColumnDataSource({"x": corners[at, 0], "y": corners[at, 1]}, name="aix-band")
    curves = ColumnDataSource(
        {"n_tokens": lengths, **{key: [r[key] for r in rows] for key, *_ in LINES}}
    )
    heads = {key: f"{label} (times the budget)" for key, label, *_ in LINES}
    data_table(curves, "Work for a token", {"n_tokens": "tokens", **heads})
    here = ColumnDataSource(
        {"n": [lengths[at]] * 3, "work": [rows[at][key] for key, *_ in LINES],
         "color": [color for *_, color, _ in LINES]}, name="aix-here",
    )  # fmt: skip
    bind_grid(
        [slider],
        {
            band: {"x": corners[:, 0], "y": corners[:, 1]},
            here: {
                "n": np.repeat(np.array(lengths)[:, None], 3, axis=1),
                "work": [[r[key] for key, *_ in LINES] for r in rows],
            },
            title: {"title": np.array(titles, dtype=object)[:, None]},
        },
        alt=caption, alts=alts,
    )  # fmt: skip
    triangle, plot = _triangle(band), _curves(curves, here, lengths)
    _add_printed(plot, printed)
    follow_title(triangle, title)
    return show(column(slider, row(triangle, plot)), alt=caption)


def _band(share: float) -> tuple[list[float], list[float]]:
    """Corners of what is read, as wide as ``share`` of the text at its right end."""
    return [0, 1, 1, share, 0], [0, 1, 1 - share, 0, 0]


def _triangle(band: ColumnDataSource) -> Any:
    plot = figure(
        " ", height=330, x_range=Range1d(-0.02, 1.02), y_range=Range1d(-0.02, 1.02),
        x_axis_label="query, from first to last", y_axis_label="key, from first to last",
    )  # fmt: skip
    plot.grid.visible = False
    for axis in plot.axis:
        axis.update(major_label_text_font_size="0px", major_tick_line_color=None)
    plot.patch([0, 1, 1], [0, 1, 0], fill_color=PALETTE["neutral"], fill_alpha=0.3, line_color=None)
    plot.patch(
        "x", "y", source=band, fill_color=PALETTE["greedy"], line_color=PALETTE["greedy"],
        line_width=2,
    )  # fmt: skip
    return plot


def _curves(curves: ColumnDataSource, here: ColumnDataSource, lengths: Sequence[int]) -> Any:
    plot = figure(
        "Work for one token", height=330, x_axis_type="log", y_axis_type="log",
        x_range=Range1d(lengths[0] / 1.5, lengths[-1] * 1.5),
        x_axis_label="tokens (log scale)", y_axis_label="in full budgets (log scale)",
    )  # fmt: skip
    marks = {1024: "1K", 16_384: "16K", 262_144: "256K", 4_194_304: "4M"}
    plot.xaxis.ticker = FixedTicker(ticks=list(marks))
    plot.xaxis.major_label_overrides = marks
    plot.yaxis.ticker = FixedTicker(ticks=[0.1, 1, 10, 100, 1000])
    plot.yaxis.major_label_overrides = {0.1: "0.1", 1: "1", 10: "10", 100: "100", 1000: "1,000"}
    plot.grid.ticker = None
    for key, label, color, dash in LINES:
        plot.line(
            "n_tokens", key, source=curves, line_width=2, color=color, line_dash=dash,
            legend_label=label,
        )  # fmt: skip
    dots = plot.scatter("n", "work", source=here, size=11, fill_color="color", line_width=1.5)
    follow_theme(dots.glyph, line_color="ink")
    plot.legend[0].update(location="top_left", padding=2, spacing=0, border_line_color=None)
    return plot


def _add_printed(plot: Any, printed: Sequence[tuple[int, float]]) -> None:
    """The company's savings, which lie on the line of all pairs if the law holds."""
    lengths, ratios = map(list, zip(*printed, strict=True))
    squares = plot.scatter(
        lengths, ratios, size=9, marker="square", fill_color=None, line_width=1.5,
        legend_label="company's table",
    )  # fmt: skip
    follow_theme(squares.glyph, line_color="ink")


def _headline(row: Mapping[str, float], budget: int) -> str:
    if row["ratio"] == 1:
        return "Shorter than two budgets: nothing is saved"
    return f"{row['ratio']:,.1f} times fewer pairs"


def _told(row: Mapping[str, float], budget: int) -> str:
    n = int(row["n_tokens"])
    if row["ratio"] == 1:
        return f"At {n:,} tokens a budget of {budget:,} keys a query saves nothing."
    return (
        f"At {n:,} tokens: {row['ratio']:,.1f} times fewer pairs with {budget:,} keys a query. An "
        f"indexer of all pairs adds {row['indexer'] - row['sparse']:.1f} times that work."
    )
