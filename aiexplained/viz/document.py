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

SLIDER, BUTTONS, INPUT, LINE = 50, 58, 64, 34
"""Heights in pixels of the controls, as ``theme.WIDGET_CSS`` lays them out."""


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


def reserved_height(model: Any, *, narrow: bool) -> int:
    """Height in pixels that ``model`` will take once drawn; ``narrow`` as on a phone.

    Rows wrap on a phone, so they are as high as all their children together.
    """
    if not getattr(model, "visible", True):
        return 0
    if isinstance(model, Column | Row):
        heights = [reserved_height(child, narrow=narrow) for child in model.children]
        gaps = int(model.spacing) * max(0, len(heights) - 1)
        if isinstance(model, Row) and not narrow:
            return max(heights, default=0)
        return sum(heights) + gaps
    if isinstance(model, Plot):
        return int(model.height or 600)
    return int(getattr(model, "height", None) or _widget_height(model))


def _widget_height(model: Any) -> int:
    if isinstance(model, AbstractSlider):
        return SLIDER
    if isinstance(model, ToggleButtonGroup):
        return BUTTONS if model.name else LINE
    if isinstance(model, AbstractButton):
        return LINE
    return INPUT if getattr(model, "title", None) else LINE
