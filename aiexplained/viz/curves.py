"""Named curves, each with its own color, dash and marker in every figure of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    FixedTicker,
    Model,
    NumeralTickFormatter,
    Range1d,
)

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice
from aiexplained.viz.parts import follow_title, legend_columns, title_source
from aiexplained.viz.theme import INK, ROLES, figure, follow_theme

Style = Mapping[str, tuple[str, str, str]]
"""Color (a theme's role or a value), dash and marker of each curve by name."""


@dataclass(frozen=True)
class View:
    """What one choice of the reader shows.

    Args:
        series: Points ``(x, y)`` by name.
        title: The finding.
        alt: The same in a sentence or two, with the numbers.
    """

    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    title: str
    alt: str


def curves(
    views: Mapping[str, View],
    *,
    style: Style,
    x_label: str,
    y_label: str = "",
    control: str = "",
    x_ticks: Mapping[float, str] | None = None,
    y_log: bool = False,
    y_range: tuple[float, float] | None = None,
    height: int = 360,
) -> Explorable:
    """Curves by name; where there are several views, buttons choose.

    Args:
        views: By the label of their button. All have the same names in their series; one without
            points in any view is left out.
        style: Of each name.
        x_label: Of the horizontal axis, with its unit.
        y_label: Of the vertical axis, with its unit; where it changes, the buttons say it.
        control: Title of the buttons.
        x_ticks: Labels of the horizontal axis by value; they make it logarithmic.
        y_log: Whether the vertical axis is logarithmic.
        y_range: Ends of the vertical axis; default: as the data of each view asks.
        height: Height of the plot in pixels.

    Raises:
        ValueError: if there is no point, two views have other names, or a name has no style.
    """
    if not any(points for view in views.values() for points, _ in view.series.values()):
        raise ValueError("curves needs a view with a point")
    first = next(iter(views.values()))
    names = list(first.series)
    for view in views.values():
        if list(view.series) != names or not set(names) <= set(style):
            raise ValueError(f"views share names of {list(style)}, got {list(view.series)}")
    title, caption = title_source(first.title), alt_source(first.alt)
    plot = figure(
        " ", height=height, x_axis_label=x_label, y_axis_label=y_label,
        x_axis_type="log" if x_ticks else "linear", y_axis_type="log" if y_log else "linear",
        y_range=Range1d(*y_range) if y_range else DataRange1d(range_padding=0.15),
    )  # fmt: skip
    if x_ticks:
        plot.xaxis.ticker = FixedTicker(ticks=list(x_ticks))
        plot.xaxis.major_label_overrides = dict(x_ticks)
        ends = [x for v in views.values() for points, _ in v.series.values() for x in points]
        plot.x_range = Range1d(min(ends) / 1.3, max(ends) * 1.3)
        plot.xgrid.ticker = None
    drawn = [name for name in names if any(v.series[name][0] for v in views.values())]
    if y_log:
        plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
    sources = {name: _source([v.series[name] for v in views.values()]) for name in drawn}
    for name, (source, _) in sources.items():
        _draw(plot, name, source, style[name])
        data_table(
            source, name, {"x": x_label, "y": y_label}, name=f"curve-{name.replace(' ', '-')}"
        )
    legend = plot.legend[0]
    plot.add_layout(legend, "above")
    legend.update(
        ncols=legend_columns(drawn), padding=0, margin=4, spacing=12, border_line_color=None
    )
    controls: list[Model] = []
    if len(views) > 1:
        controls = [choice(control, list(views))]
        grids: dict[ColumnDataSource, Any] = dict(sources.values())
        grids[title] = {"title": np.array([[v.title] for v in views.values()], dtype=object)}
        bind_grid(controls, grids, alt=caption, alts=[v.alt for v in views.values()])
    follow_title(plot, title)
    return show(column(*controls, plot), alt=caption)


def _source(
    parts: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[ColumnDataSource, dict[str, Any]]:
    """The points of one name in the first view, and in all, filled up to equal numbers."""
    most = max(len(x) for x, _ in parts)
    grid = {
        axis: np.array([[*part[i], *[nan] * (most - len(part[i]))] for part in parts], dtype=float)
        for i, axis in enumerate(("x", "y"))
    }
    return ColumnDataSource({axis: values[0] for axis, values in grid.items()}), grid


def _draw(plot: Any, name: str, source: ColumnDataSource, look: tuple[str, str, str]) -> None:
    color, dash, marker = look
    shown = INK if color in ROLES else color
    line = plot.line(
        "x", "y", source=source, line_width=2, line_dash=dash, legend_label=name,
        line_color=shown,
    )  # fmt: skip
    dots = plot.scatter(
        "x", "y", source=source, size=10, marker=marker, legend_label=name, line_width=1.5,
        fill_color=None if color in ROLES else color, line_color=shown,
    )  # fmt: skip
    if color in ROLES:
        follow_theme(line.glyph, line_color=color)
        follow_theme(dots.glyph, line_color=color)
