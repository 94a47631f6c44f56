"""A Bokeh model as a document that is the same in every run, and what the page must know of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from bokeh.embed import json_item
from bokeh.models import (
    Column,
    ColumnDataSource,
    DataTable,
    MathText,
    Model,
    Plot,
    Row,
    TablerIcon,
    Widget,
)
from bokeh.models.widgets import AbstractButton, AbstractSlider, ToggleButtonGroup

SPACING = 8
"""Pixels between the children of a row or column, unless they say otherwise."""

SLIDER, INPUT, LINE = 50, 64, 34
LETTER_HEIGHT, LETTER_WIDTH, BUTTON_GAP = 20, 7.5, 6
"""Pixels of the controls, as ``theme.WIDGET_CSS`` lays them out in a font of usual width."""

PLOT_WIDTH, CONTROL_WIDTH = 280, 200
"""Least pixels of a plot and of any other part of a row before the row wraps."""


def canonical_item(model: Model) -> str:
    """JSON of ``model`` for ``Bokeh.embed.embed_item``, equal in every run of the same code.

    Bokeh numbers models by a counter of the process; here they are numbered by order of
    appearance in the document. ``<`` is escaped, so that the text may stand inside a
    ``<script>`` element.
    """
    # Through text first: Bokeh's JSON shares parts, and holds tuples.
    item = json.loads(json.dumps(json_item(model)))
    names: dict[str, str] = {}
    _rename(item["doc"], names)
    item["root_id"] = names[item["root_id"]]
    text = json.dumps(item, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _rename(node: Any, names: dict[str, str]) -> None:
    # Users' dictionaries are lists of entries in Bokeh's JSON: an "id" key is always a model's.
    if isinstance(node, dict):
        if isinstance(node.get("id"), str):
            node["id"] = names.setdefault(node["id"], f"m{len(names) + 1}")
        for value in node.values():
            _rename(value, names)
    elif isinstance(node, list):
        for value in node:
            _rename(value, names)


def digest(item: str) -> str:
    """Short hash of a canonical document: the figure's name, and that of its picture."""
    return hashlib.sha256(item.encode()).hexdigest()[:16]


def bokeh_parts(model: Model) -> list[str]:
    """Files of BokehJS that ``model`` needs, in the order of loading.

    Raises:
        ValueError: if it needs what the site does not carry: tables, TeX labels, outside icons.
    """
    models = model.references()
    for part in models:
        if isinstance(part, DataTable):
            raise ValueError("figures have no DataTable: name a source with viz.data_table instead")
        if isinstance(part, MathText) or any("$$" in text for text in _labels(part)):
            raise ValueError(f"TeX labels need MathJax, which pages do not load: {part}")
        if isinstance(part, TablerIcon):
            raise ValueError("TablerIcon is fetched from another host; use BuiltinIcon or SVGIcon")
    return ["bokeh", "bokeh-widgets"] if any(isinstance(m, Widget) for m in models) else ["bokeh"]


def _labels(model: Model) -> list[str]:
    names = ("text", "title", "axis_label")
    values = (getattr(model, name) for name in names if name in model.properties())
    return [value for value in values if isinstance(value, str)]


def table_sources(model: Model) -> list[str]:
    """Names of the data sources that the figure offers as a table."""
    named = {m.name for m in model.references() if isinstance(m, ColumnDataSource) and m.name}
    return sorted(name for name in named if not name.startswith("aix-"))


def reserved_height(model: Any, width: float) -> int:
    """Height in pixels that ``model`` will take once drawn in ``width`` pixels.

    Rows wrap as ``theme.ROW_CSS`` says, and so do long titles and groups of buttons.
    """
    if not getattr(model, "visible", True):
        return 0
    if isinstance(model, Row):
        lines = _lines(model.children, model.spacing, width)
        return _stack([_line_height(line, model.spacing, width) for line in lines], model.spacing)
    if isinstance(model, Column):
        return _stack([reserved_height(child, width) for child in model.children], model.spacing)
    if isinstance(model, Plot):
        return int(model.height or 600)
    return int(getattr(model, "height", None) or _widget_height(model, width))


def _stack(heights: list[int], spacing: int) -> int:
    return sum(heights) + spacing * max(0, len(heights) - 1)


def _lines(children: list[Any], spacing: int, width: float) -> list[list[Any]]:
    lines: list[list[Any]] = []
    used = 0.0
    for child in children:
        least = min(width, PLOT_WIDTH if isinstance(child, Plot) else CONTROL_WIDTH)
        if lines and used + spacing + least <= width:
            lines[-1].append(child)
            used += spacing + least
        else:
            lines.append([child])
            used = least
    return lines


def _line_height(line: list[Any], spacing: int, width: float) -> int:
    share = (width - spacing * (len(line) - 1)) / len(line)
    return max(reserved_height(child, share) for child in line)


def _widget_height(model: Any, width: float) -> int:
    title = str(getattr(model, "title", None) or "")
    if isinstance(model, AbstractSlider):
        # Six more letters for the value, which the title ends in.
        return SLIDER + LETTER_HEIGHT * int(LETTER_WIDTH * (len(title) + 6) / width)
    if isinstance(model, ToggleButtonGroup):
        return _buttons_height(model, width)
    if isinstance(model, AbstractButton):
        return LINE
    return INPUT if title else LINE


def _buttons_height(model: Any, width: float) -> int:
    rows, used = 1, 0.0
    for label in model.labels:
        button = 2 * 13 + LETTER_WIDTH * len(label)
        if used and used + BUTTON_GAP + button > width:
            rows, used = rows + 1, button
        else:
            used += button + (BUTTON_GAP if used else 0)
    return (LETTER_HEIGHT + 4 if model.name else 0) + _stack([LINE] * rows, BUTTON_GAP)
