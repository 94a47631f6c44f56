"""A row a category: a mark at the mean of each series, and a line as long as its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import isfinite
from typing import Any

import numpy as np
from bokeh.models import CDSView, ColumnDataSource, FixedTicker, IndexFilter, Range1d

from aiexplained.viz.curves import Style
from aiexplained.viz.explorable import Explorable, data_table, show
from aiexplained.viz.parts import legend_above, legend_columns
from aiexplained.viz.theme import INK, ROLES, figure, follow_theme

Rows = Mapping[str, Mapping[str, Sequence[float]]]
"""Category to series to values, one a seed."""

LINE, PADDING, FRAME = 22, 20, 96
"""Pixels of a series within its row, around the series, and of title and axis together."""
NARROWEST = 220
"""Pixels between the names of the rows and the border of a phone."""
DASHES = ("dashed", "dotted", "dotdash")
LETTERS = 14
"""A longer name of a category breaks in two lines."""


def dots(
    rows: Rows,
    *,
    style: Style,
    x_label: str,
    title: str,
    alt: str,
    baseline: Mapping[str, float] | None = None,
) -> Explorable:
    """Means and spreads by category, one below the other.

    Args:
        rows: Values by category, from the top, and by series; a series may miss in a category.
        style: Color, dash and marker of each series; its order is that of the series in a row.
        x_label: What the values are, with their unit.
        title: The finding.
        alt: The finding in a sentence or two, with the numbers.
        baseline: Values by name that the rows are read against, as vertical dashed lines.

    Raises:
        ValueError: if there is no row, a row or series is empty, a series has no style, or a value
            is not finite.
    """
    lines = dict(baseline or {})
    _check(rows, style, lines)
    names = [name for name in style if any(name in row for row in rows.values())]
    table = ColumnDataSource(_columns(rows, names))
    heads = {
        "category": "row", "series": "series", "mean": f"{x_label}, mean", "low": "lowest",
        "high": "highest", "seeds": "values",
    }  # fmt: skip
    data_table(table, "Means and spreads", heads)
    most = max(map(len, rows.values()))
    plot = figure(
        title, height=FRAME + len(rows) * (PADDING + LINE * most), x_axis_label=x_label,
        x_range=Range1d(*_ends(table, lines)), y_range=Range1d(len(rows) - 0.5, -0.5),
    )  # fmt: skip
    plot.xaxis.ticker.desired_num_ticks = 4
    plot.yaxis.update(
        ticker=FixedTicker(ticks=list(range(len(rows)))),
        major_label_overrides={i: _in_two_lines(name) for i, name in enumerate(rows)},
        major_tick_line_color=None,
    )
    plot.ygrid.ticker = FixedTicker(ticks=[i + 0.5 for i in range(len(rows) - 1)])
    labels = [*lines, *names] if len(lines) + len(names) > 1 else []
    for (label, x), dash in zip(lines.items(), cycle(DASHES), strict=False):
        _draw_baseline(plot, label, x, dash, len(rows))
    for name in names:
        _draw_series(plot, name, table, style[name], legend=bool(labels))
    if labels:
        columns = legend_columns(labels, NARROWEST)
        legend_above(plot, columns)
        plot.height += 26 * -(-len(labels) // columns)
    return show(plot, alt=alt)


def _check(rows: Rows, style: Style, lines: Mapping[str, float]) -> None:
    if not rows:
        raise ValueError("dots: there is at least one row, got none")
    for category, row in rows.items():
        if not row or not set(row) <= set(style):
            raise ValueError(
                f"dots: a row has series of {list(style)}, at least one; {category!r} has "
                f"{list(row)}"
            )
        for name, values in row.items():
            if not len(values) or not np.isfinite(values).all():
                raise ValueError(
                    f"dots: a series has finite values, at least one; {name!r} of {category!r} "
                    f"has {list(values)}"
                )
    unknown = {label: x for label, x in lines.items() if not isfinite(x)}
    if unknown:
        raise ValueError(f"dots: a baseline is finite, got {unknown}")


def _columns(rows: Rows, names: Sequence[str]) -> dict[str, list[Any]]:
    """A line for each series of each category; its height counts categories from the top."""
    found: dict[str, list[Any]] = {
        key: [] for key in ("category", "series", "y", "mean", "low", "high", "seeds")
    }
    for at, (category, row) in enumerate(rows.items()):
        here = [name for name in names if name in row]
        step = LINE / (PADDING + LINE * max(map(len, rows.values())))
        for i, name in enumerate(here):
            values = np.asarray(row[name], dtype=float)
            found["category"].append(category)
            found["series"].append(name)
            found["y"].append(at + step * (i - (len(here) - 1) / 2))
            found["mean"].append(float(values.mean()))
            found["low"].append(float(values.min()))
            found["high"].append(float(values.max()))
            found["seeds"].append(len(values))
    return found


def _ends(table: ColumnDataSource, lines: Mapping[str, float]) -> tuple[float, float]:
    every = [*table.data["low"], *table.data["high"], *lines.values()]
    margin = 0.06 * (max(every) - min(every)) or 0.06 * abs(every[0]) or 1.0
    return min(every) - margin, max(every) + margin


def _in_two_lines(name: str) -> str:
    """The name with a line break at the blank that leaves the shorter longest line."""
    blanks = [i for i, letter in enumerate(name) if letter == " "]
    if len(name) <= LETTERS or not blanks:
        return name
    at = min(blanks, key=lambda i: max(i, len(name) - i - 1))
    return f"{name[:at]}\n{name[at + 1 :]}"


def _draw_baseline(plot: Any, label: str, x: float, dash: str, n_rows: int) -> None:
    line = plot.line([x, x], [-0.5, n_rows - 0.5], line_width=2, line_dash=dash,
                     legend_label=label)  # fmt: skip
    follow_theme(line.glyph, line_color="muted")


def _draw_series(
    plot: Any, name: str, table: ColumnDataSource, look: tuple[str, str, str], *, legend: bool
) -> None:
    color, dash, marker = look
    fill = INK if color in ROLES else color
    own = [i for i, series in enumerate(table.data["series"]) if series == name]
    options = {"source": table, "view": CDSView(filter=IndexFilter(own)), "line_color": fill}
    options |= {"legend_label": name} if legend else {}
    spread = plot.segment("low", "y", "high", "y", line_width=2, line_dash=dash, **options)
    mark = plot.scatter("mean", "y", size=11, marker=marker, fill_color=fill, **options)
    if color in ROLES:
        follow_theme(spread.glyph, line_color=color)
        follow_theme(mark.glyph, line_color=color, fill_color=color)
