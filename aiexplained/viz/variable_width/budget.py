"""Where the saving comes from, and what the processor makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool, Range1d

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, index_slider
from aiexplained.viz.parts import follow_title, legend_above, title_source
from aiexplained.viz.theme import PALETTE, figure, follow_theme

LOOKS = {
    "uniform": (PALETTE["computed"], "square", "uniform model"),
    "paper": (PALETTE["greedy"], "circle", "paper's shape"),
}
"""Color, marker and label of a layer of each model."""


def two_layers(pairs: Sequence[tuple[float, float]], *, first: int) -> Explorable:
    """Two layers with one budget of weights: a point on a circle, and the cache it needs.

    Args:
        pairs: Widths of the two layers over the uniform width; all have equal sums of squares.
        first: Position at the start.
    """
    radius = float(np.hypot(*pairs[0]))
    shares = [100 * (a + b) / 2 for a, b in pairs]
    titles = [f"The same weights, {_less(share)}" for share in shares]
    alts = [
        f"Widths {a:.2f} and {b:.2f} of the uniform width: the squares still add up to "
        f"{a * a + b * b:.2f}, so the weights are the same; the sum is {a + b:.2f} instead of "
        f"2.00, so the cache holds {share:.0f} % of the uniform one."
        for (a, b), share in zip(pairs, shares, strict=True)
    ]
    slider = index_slider("Width of the first layer (uniform = 1)", [f"{a:.2f}" for a, _ in pairs],
                          first)  # fmt: skip
    title, caption = title_source(titles[first]), alt_source(alts[first])
    point = ColumnDataSource({"what": ["two layers"]})
    line = ColumnDataSource({"y": [0.0, 0.0]}, name="aix-line")
    values = np.array(pairs)
    ends = np.array([[0.0, a + b] for a, b in pairs])
    bind_grid(
        [slider],
        {
            point: {
                "first": values[:, :1], "second": values[:, 1:],
                "cache": np.array(shares)[:, None],
            },
            line: {"x": ends, "y": ends[:, ::-1]},
            title: {"title": np.array(titles, dtype=object)[:, None]},
        },
        alt=caption,
        alts=alts,
    )  # fmt: skip
    data_table(
        point, "Two layers on one budget",
        {"first": "first width", "second": "second width", "cache": "cache (% of uniform)"},
    )  # fmt: skip
    plot = _circle(point, line, radius)
    follow_title(plot, title)
    return show(column(slider, plot), alt=caption)


def _less(share: float) -> str:
    return f"{100 - share:.0f} % less cache" if round(share) < 100 else "the same cache"


def _circle(point: ColumnDataSource, line: ColumnDataSource, radius: float) -> Any:
    plot = figure(
        " ", height=420, x_range=Range1d(0, 2.05), y_range=Range1d(0, 1.08 * radius),
        x_axis_label="width of the first layer", y_axis_label="width of the second layer",
    )  # fmt: skip
    turn = np.linspace(0, np.pi / 2, 60)
    arc = plot.line(
        radius * np.cos(turn), radius * np.sin(turn), line_width=3,
        legend_label="equal weights",
    )  # fmt: skip
    follow_theme(arc.glyph, line_color="ink")
    plot.line(
        [0, 2], [2, 0], line_width=2, line_dash="dashed", line_color=PALETTE["computed"],
        legend_label="uniform cache",
    )  # fmt: skip
    plot.line(
        "x", "y", source=line, line_width=2.5, line_color=PALETTE["greedy"],
        legend_label="your cache",
    )  # fmt: skip
    plot.scatter("first", "second", source=point, size=16, fill_color=PALETTE["greedy"],
                 line_color="#ffffff", line_width=2)  # fmt: skip
    legend_above(plot)
    plot.legend[0].spacing = 6  # three labels in a row on a phone
    return plot


def layer_rates(
    layers: Mapping[str, Sequence[tuple[int, float]]], *, title: str, alt: str
) -> Explorable:
    """Arithmetic rate of every layer against its width.

    Args:
        layers: For ``"uniform"`` and ``"paper"``, ``(width, GFLOP/s)`` of each layer.
        title: The finding.
        alt: The finding, in a sentence.
    """
    plot = figure(
        title, height=320, x_axis_label="width of the layer",
        y_axis_label="billion operations a second",
    )  # fmt: skip
    plot.y_range.start = 0
    plot.y_range.range_padding = 0.1
    for name, points in layers.items():
        color, marker, label = LOOKS[name]
        data = {
            "layer": list(range(1, len(points) + 1)),
            "width": [w for w, _ in points], "rate": [rate for _, rate in points],
        }  # fmt: skip
        source = data_table(
            ColumnDataSource(data), f"{label.capitalize()}: rate by width",
            {"layer": "layer", "width": "width", "rate": "billion operations a second"},
        )  # fmt: skip
        marks = plot.scatter("width", "rate", source=source, size=11, marker=marker, color=color,
                             fill_alpha=0.7, legend_label=label)  # fmt: skip
        tips = [("layer", "@layer"), ("width", "@width"), ("rate", "@rate{0.0}")]
        plot.add_tools(HoverTool(renderers=[marks], tooltips=tips))
    legend_above(plot)
    return show(plot, alt=alt)
