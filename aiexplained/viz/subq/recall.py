"""Which share of the needles each selector finds, and what it pays: bars under three sliders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, FixedTicker, Range1d

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice, index_slider
from aiexplained.viz.parts import follow_title, title_source
from aiexplained.viz.theme import PALETTE, figure

Cell = Mapping[str, tuple[float, float]]
"""Selector to recall, in percent, and cost: vector products for one token."""


def needle_recall(
    cells: Mapping[tuple[int, int, float], Cell],
    *,
    lengths: Sequence[int],
    budgets: Sequence[int],
    cosines: Sequence[float],
    first: tuple[int, int, float],
) -> Explorable:
    """Recall and cost of every selector at the length, budget and likeness of the reader's choice.

    Args:
        cells: By length, budget and cosine; all have the same selectors.
        lengths: Tokens in the text.
        budgets: Keys that a query reads at most.
        cosines: How alike needle and query are.
        first: The first choice.
    """
    names = list(cells[first])
    controls = [
        index_slider("Tokens in the text", [f"{n:,}" for n in lengths], lengths.index(first[0])),
        index_slider("Keys a query may read", [f"{b:,}" for b in budgets], budgets.index(first[1])),
        choice("Cosine of query and needle", cosines, cosines.index(first[2])),
    ]
    keys = [[[(n, b, c) for c in cosines] for b in budgets] for n in lengths]
    flat = [key for plane in keys for line in plane for key in line]
    shape = (len(lengths), len(budgets), len(cosines))
    recall = np.array([[cells[k][name][0] for name in names] for k in flat])
    cost = np.array([[cells[k][name][1] for name in names] for k in flat])
    at = flat.index(first)
    source = ColumnDataSource(
        {
            "selector": names, "recall": recall[at], "cost": cost[at],
            "recall_text": _percent(recall[at]), "cost_text": _count(cost[at]),
        }
    )  # fmt: skip
    data_table(
        source, "Needles found and their price",
        {"selector": "selector", "recall": "found (%)", "cost": "vector products for a token"},
    )  # fmt: skip
    titles, alts = [_headline(k, cells[k]) for k in flat], [_told(k, cells[k]) for k in flat]
    title, caption = title_source(titles[at]), alt_source(alts[at])
    wide = (*shape, len(names))
    bind_grid(
        controls,
        {
            source: {
                "recall": recall.reshape(wide), "cost": cost.reshape(wide),
                "recall_text": np.array([_percent(r) for r in recall], dtype=object).reshape(wide),
                "cost_text": np.array([_count(c) for c in cost], dtype=object).reshape(wide),
            },
            title: {"title": np.array(titles, dtype=object).reshape(*shape, 1)},
        },
        alt=caption, alts=np.array(alts, dtype=object).reshape(shape),
    )  # fmt: skip
    found, paid = _found(source, names), _paid(source, names, float(cost.max()))
    follow_title(found, title)
    return show(column(row(*controls[:2]), controls[2], row(found, paid)), alt=caption)


def _found(source: ColumnDataSource, names: Sequence[str]) -> object:
    plot = figure(
        " ", height=270, y_range=list(names)[::-1], x_range=Range1d(0, 140),
        x_axis_label="needles found (%)",
    )  # fmt: skip
    plot.ygrid.visible = False
    plot.xaxis.ticker = FixedTicker(ticks=[0, 25, 50, 75, 100])
    plot.hbar(
        y="selector", right="recall", height=0.62, source=source, fill_color=PALETTE["greedy"],
        line_color=None,
    )  # fmt: skip
    _label(plot, "recall", "recall_text", source)
    return plot


def _paid(source: ColumnDataSource, names: Sequence[str], most: float) -> object:
    plot = figure(
        "What a token pays", height=270, y_range=list(names)[::-1], x_axis_type="log",
        x_range=Range1d(100, most * 60), x_axis_label="vector products (log scale)",
    )  # fmt: skip
    plot.ygrid.visible = False
    plot.xaxis.ticker = FixedTicker(ticks=[100, 1000, 10_000, 100_000])
    plot.xaxis.major_label_overrides = {100: "100", 1000: "1K", 10_000: "10K", 100_000: "100K"}
    plot.scatter("cost", "selector", source=source, size=12, color=PALETTE["computed"])
    _label(plot, "cost", "cost_text", source)
    return plot


def _label(plot: object, at: str, text: str, source: ColumnDataSource) -> None:
    plot.text(  # type: ignore[attr-defined]
        at, "selector", text, source=source, x_offset=9, text_baseline="middle",
        text_font_size="13px",
    )  # fmt: skip


def _percent(values: Sequence[float]) -> list[str]:
    return [f"{v:.0f} %" for v in values]


def _count(values: Sequence[float]) -> list[str]:
    return [f"{v:,.0f}" for v in values]


def _headline(key: tuple[int, int, float], cell: Cell) -> str:
    n_tokens, budget, _ = key
    if budget >= n_tokens:
        return "The budget covers the whole text"
    return f"Hash: {cell['hash'][0]:.0f} % of the needles"


def _told(key: tuple[int, int, float], cell: Cell) -> str:
    n_tokens, budget, cosine = key
    found = ", ".join(f"{name} {recall:.0f} %" for name, (recall, _) in cell.items())
    return (
        f"Needles found from the end of {n_tokens:,} tokens with {budget:,} keys a query and a "
        f"cosine of {cosine:g}: {found}."
    )
