"""One row of weights, rounded to three values, packed, and multiplied without a multiplication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, Range1d, Span
from numpy.typing import ArrayLike

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice, index_slider
from aiexplained.viz.parts import HATCH, follow_title, legend_above, title_source
from aiexplained.viz.theme import PALETTE, figure, follow_theme

LOOKS = {
    1: ("+1", PALETTE["greedy"], {}),
    -1: ("−1", PALETTE["computed"], HATCH),
    0: ("0", PALETTE["neutral"], {}),
}
"""What becomes of a weight: its name, the color, and stripes."""


def ternary_row(
    weight: ArrayLike,
    x: ArrayLike,
    ternary: ArrayLike,
    scale: ArrayLike,
    codes: Sequence[Sequence[str]],
    *,
    sizes: Sequence[int],
    first: tuple[int, int] = (0, 0),
) -> Explorable:
    """Weights with the lines at which they are cut, their codes, and the sum that they make.

    Args:
        weight: A row of ``K`` weights.
        x: Its ``K`` inputs.
        ternary: -1, 0 or 1 for each weight under each group size, ``(sizes, K)``.
        scale: The scale of each weight's group, ``(sizes, K)``.
        codes: The two bits of each weight, ``(sizes, K)``.
        sizes: Weights in a group.
        first: Positions of the controls at the start: group size, weights taken.
    """
    row, inputs, signs = (np.asarray(v, dtype=float) for v in (weight, x, ternary))
    scales, n = np.asarray(scale, dtype=float), len(np.asarray(x))
    at = np.arange(n)
    controls = [
        choice("Weights that share a scale", sizes, first[0]),
        index_slider("Weights taken so far", range(n + 1), first[1]),
    ]
    taken = np.arange(n + 1)[:, None] > at  # (steps, K)
    terms = signs * inputs  # (sizes, K)
    sums = np.cumsum(scales * terms, axis=1)
    bars = ColumnDataSource({"k": at, "weight": row}, name="aix-weights")
    parts = ColumnDataSource({"k": at}, name="aix-terms")
    path = ColumnDataSource({"k": np.arange(n + 1)}, name="aix-sum")
    titles, alts = _findings(row, signs, sums, sizes, (scales * signs) @ inputs)
    title, caption = title_source(titles[first]), alt_source(alts[first])
    by_sign = {f"is {s}": np.where(signs == s, row, 0) for s in LOOKS}
    bind_grid(controls[:1], {bars: {**by_sign, "high": scales / 2, "low": -scales / 2,
                                    "code": np.array(codes, dtype=object)}})  # fmt: skip
    grid = np.broadcast_to((scales * terms)[:, None], (len(sizes), n + 1, n))
    shown = {f"term {s}": np.where(taken & (signs == s)[:, None], grid, 0) for s in (1, -1)}
    whole = np.concatenate([np.zeros((len(sizes), 1)), sums], axis=1)
    steps = np.broadcast_to(np.arange(n + 1), (n + 1, n + 1))
    walked = np.where(steps <= np.arange(n + 1)[:, None], whole[:, None], np.nan)
    bind_grid(
        controls,
        {parts: shown, path: {"sum": walked}, title: {"title": titles[..., None]}},
        alt=caption, alts=alts,
    )  # fmt: skip
    table = ColumnDataSource({"k": at + 1, "weight": row.round(3), "input": inputs.round(3)})
    bind_grid(controls[:1], {table: {"sign": signs, "code": np.array(codes, dtype=object),
                                     "scale": np.round(scales, 3)}})  # fmt: skip
    data_table(table, "The row", {"k": "place", "weight": "weight", "scale": "scale",
                                  "sign": "rounded", "code": "bits", "input": "input"})  # fmt: skip
    top, bottom = _weights(bars, row), _sum(parts, path, whole, scales * terms)
    follow_title(top, title)
    return show(column(*controls, top, bottom), alt=caption)


def _weights(bars: ColumnDataSource, row: np.ndarray) -> Any:
    far = np.abs(row).max() * 1.25
    plot = figure(
        " ", height=300, x_range=Range1d(-0.6, len(row) - 0.4), y_range=Range1d(-far * 1.25, far),
        y_axis_label="weight", x_axis_location=None,
    )  # fmt: skip
    plot.xgrid.visible = False
    for sign, (label, color, look) in LOOKS.items():
        plot.vbar("k", top=f"is {sign}", width=0.8, source=bars, fill_color=color, line_color=None,
                  legend_label=label,
                  **look)  # fmt: skip
    for key in ("high", "low"):
        line = plot.segment(x0=_shift("k", -0.5), x1=_shift("k", 0.5), y0=key, y1=key, source=bars,
                            line_width=2, legend_label="± half the scale")  # fmt: skip
        follow_theme(line.glyph, line_color="ink")
    plot.text(
        "k", -far * 1.23, "code", source=bars, text_font_size="12px", angle=np.pi / 2,
        text_baseline="middle",
    )  # fmt: skip
    zero = Span(location=0, dimension="width", line_width=1)
    plot.add_layout(follow_theme(zero, line_color="muted"))
    legend_above(plot)
    return plot


def _shift(name: str, by: float) -> Any:
    from bokeh.transform import dodge

    return dodge(name, by)


def _sum(
    parts: ColumnDataSource, path: ColumnDataSource, whole: np.ndarray, terms: np.ndarray
) -> Any:
    low, high = min(whole.min(), terms.min()), max(whole.max(), terms.max())
    room = 0.12 * (high - low)
    n = whole.shape[1] - 1
    plot = figure(
        "The sum so far: inputs added and subtracted", height=240,
        x_range=Range1d(-0.6, n - 0.4), y_range=Range1d(low - room, high + room),
        y_axis_label="scaled input", x_axis_label="place in the row",
    )  # fmt: skip
    plot.xgrid.visible = False
    for sign in (1, -1):
        _, color, look = LOOKS[sign]
        plot.vbar("k", top=f"term {sign}", width=0.8, source=parts, fill_color=color,
                  line_color=None, **look)  # fmt: skip
    line = plot.step(_shift("k", -0.5), "sum", source=path, line_width=3, mode="after")
    follow_theme(line.glyph, line_color="ink")
    return plot


def _findings(
    row: np.ndarray, signs: np.ndarray, sums: np.ndarray, sizes: Sequence[int], exact: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    n = len(row)
    titles, alts = (np.empty((len(sizes), n + 1), dtype=object) for _ in range(2))
    for i, size in enumerate(sizes):
        count = {s: int((signs[i] == s).sum()) for s in (1, -1, 0)}
        for step in range(n + 1):
            total = sums[i, step - 1] if step else 0.0
            plus, minus = (int((signs[i, :step] == s).sum()) for s in (1, -1))
            titles[i, step] = (
                f"{plus} added, {minus} subtracted: the sum is {total:.2f}"
                if step else f"{count[1]} of {n} become +1, {count[-1]} −1, {count[0]} zero"
            )  # fmt: skip
            alts[i, step] = (
                f"Groups of {size}: of {n} weights {count[1]} become +1, {count[-1]} −1 and "
                f"{count[0]} zero, by whether they lie beyond half of their group's scale. After "
                f"{step} of them {plus} inputs were added and {minus} subtracted, and the sum is "
                f"{total:.2f}; the whole row gives {exact[i]:.2f}."
            )
    return titles, alts
