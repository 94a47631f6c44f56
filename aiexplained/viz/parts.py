"""Parts that figures of several pages share: titles, legends, calls into a script, its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from bokeh.models import ColumnDataSource, CustomJS

HATCH = {"hatch_pattern": "/", "hatch_color": "#ffffff", "hatch_weight": 0.7}
"""Stripes, so that a fill is told apart by more than its color."""

LEGEND_KEY, LEGEND_LETTER = 29, 7
"""Pixels of a label's key in a legend, with the gaps around it, and of a letter."""


def title_source(text: str) -> ColumnDataSource:
    """A source whose column ``title`` a grid may change; see :func:`follow_title`."""
    return ColumnDataSource({"title": [text]}, name="aix-title")


def follow_title(plot: Any, source: ColumnDataSource) -> None:
    """Let the title of ``plot`` be what :func:`title_source` says, now and later."""
    plot.title.text = source.data["title"][0]
    code = "title.text = source.data.title[0]"
    source.js_on_change("data", CustomJS(args={"source": source, "title": plot.title}, code=code))


def legend_above(plot: Any, columns: int | None = None) -> None:
    """Move the legend out of the way of the data, above it.

    Args:
        plot: It has one legend.
        columns: Entries side by side, from the left; default: all, in a row.
    """
    legend = plot.legend[0]
    plot.add_layout(legend, "above")
    legend.update(orientation="horizontal", padding=0, margin=4, spacing=16, border_line_color=None)
    if columns:
        legend.update(ncols=columns, spacing=8, location="top_left")


def legend_columns(labels: Sequence[str], room: float = 245) -> int:
    """Columns of a legend that a phone has room for, one at least.

    Args:
        labels: Texts of the legend, in its order.
        room: Pixels that the plot leaves it.

    >>> legend_columns(["a", "b", "c"]), legend_columns(["a rather long label", "another one"])
    (3, 1)
    """

    def width(columns: int) -> float:
        longest = (max(map(len, labels[i::columns])) for i in range(columns))
        return sum(LEGEND_KEY + LEGEND_LETTER * n for n in longest)

    return next((n for n in range(len(labels), 1, -1) if width(n) <= room), 1)


def call_rule(rule: str, name: str, args: Mapping[str, Any], tail: str = "") -> CustomJS:
    """A callback that hands its arguments, as one object, to a function of a rule's script.

    Args:
        rule: Name of the script in ``viz/rules``, without its ending.
        name: Function that the script offers.
        args: Models and plain values; each is a key of the object.
        tail: Further arguments in JavaScript, e.g. ``", 'first'"``.
    """
    names = ", ".join(args)
    code = f"aiexplained.rules.{rule}.{name}({{{names}}}{tail})"
    return CustomJS(args=dict(args), code=code)


def draw_first(plot: Any, callback: CustomJS) -> None:
    """Run ``callback`` once the figure has a size, and again whenever the size changes."""
    plot.js_on_change("inner_width", callback)


def fixed(number: float, digits: int) -> str:
    """The number as JavaScript's ``toFixed`` writes it, which rounds halves away from zero.

    Args:
        number: A finite number smaller than 1e21.
        digits: After the point.

    >>> fixed(0.125, 2), f"{0.125:.2f}"
    ('0.13', '0.12')
    """
    return str(Decimal(float(number) + 0.0).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
