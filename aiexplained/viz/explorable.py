"""``show``: the last expression of a cell, a figure that works wherever the notebook opens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import ColumnDataSource, Model

from aiexplained.viz.assets import bokeh_version, rule_file
from aiexplained.viz.document import (
    bokeh_parts,
    canonical_item,
    digest,
    reserved_height,
    table_sources,
)
from aiexplained.viz.html import FIGURE_MIME, Drawing, notebook_figure
from aiexplained.viz.theme import dress

ALT_NAME = "aix-alt"
PAGE_WIDTH, PHONE_WIDTH = 650, 330
"""Pixels that a figure has on the site, at a desk and on a phone."""


def alt_source(text: str) -> ColumnDataSource:
    """A data source that holds the figure's text alternative, for findings that change.

    Pass it to :func:`show` as ``alt`` and to the callback that changes the figure; the caption
    follows ``alt.data = {text: ["..."]}`` in JavaScript.

    Args:
        text: The finding in the figure's first state.

    Returns:
        A source named ``aix-alt`` with one row in the column ``text``.
    """
    return ColumnDataSource(data={"text": [_checked_alt(text)]}, name=ALT_NAME)


def data_table(
    source: ColumnDataSource, label: str, columns: Mapping[str, str], *, name: str | None = None
) -> ColumnDataSource:
    """Offer ``source`` under the figure as "Data as a table".

    Args:
        source: A data source that the figure draws.
        label: Caption of the table.
        columns: Columns to show, in order, with their headers; a header names the unit.
        name: Name of the source; made from ``label`` if left out.

    Returns:
        ``source``.

    Raises:
        ValueError: if a column is missing from the source, or the name starts with ``aix-``.
    """
    missing = [key for key in columns if key not in source.data]
    if missing:
        raise ValueError(f"data_table: source has no columns {missing}, only {list(source.data)}")
    source.name = name or "-".join(label.lower().split())
    if source.name.startswith("aix-"):
        raise ValueError(f"data_table: names starting with 'aix-' are private, got {source.name!r}")
    source.tags = [{"label": label, "columns": dict(columns)}]
    return source


@dataclass(frozen=True)
class Explorable:
    """A figure ready for display; made by :func:`show`.

    Args:
        drawing: The document and everything that a page must know to draw it.
    """

    drawing: Drawing

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        # One string, not a JSON object: notebooks are saved with sorted keys, and the meaning
        # of a Bokeh document depends on their order.
        return {
            FIGURE_MIME: json.dumps(self.drawing.payload()),
            "text/html": notebook_figure(self.drawing),
            "text/plain": self.drawing.alt,
        }

    def __repr__(self) -> str:
        return f"Explorable({self.drawing.alt!r})"


def show(
    model: Model,
    *,
    alt: str | ColumnDataSource,
    rules: Sequence[str] = (),
    height: int | None = None,
) -> Explorable:
    """Display a Bokeh model in a notebook or on the site.

    Args:
        model: A figure, or a layout of figures and controls.
        alt: What the figure shows, as one or two sentences that state the finding. It is the
            visible caption and the text alternative. A source from :func:`alt_source` lets it
            follow the controls.
        rules: Names of the scripts ``aiexplained/viz/rules/<name>.js`` that the figure's
            callbacks call as ``aiexplained.rules.<name>``.
        height: Pixels to reserve before the figure is drawn, where the sum of its parts is not
            right.

    Returns:
        An object that a cell displays when it is the last expression.

    Raises:
        TypeError: if ``model`` is not a Bokeh model, or ``alt`` is neither text nor a source.
        ValueError: if ``alt`` is empty, a rule does not exist, ``height`` is not positive, or
            the figure needs files that pages do not carry (TeX labels, tables, outside icons).
    """
    if not isinstance(model, Model):
        raise TypeError(f"show needs a Bokeh model, got {type(model).__name__}")
    if height is not None and height <= 0:
        raise ValueError(f"show: height must be positive, got {height}")
    for rule in rules:
        rule_file(rule)
    parts = bokeh_parts(dress(model))
    item = canonical_item(model)
    return Explorable(
        Drawing(
            alt=_alt_text(alt),
            digest=digest(item),
            item=item,
            bokeh=bokeh_version(),
            parts=tuple(parts),
            rules=tuple(rules),
            height=height or reserved_height(model, PAGE_WIDTH),
            narrow_height=height or reserved_height(model, PHONE_WIDTH),
            has_table=bool(table_sources(model)),
        )
    )


def _alt_text(alt: str | ColumnDataSource) -> str:
    if isinstance(alt, str):
        return _checked_alt(alt)
    if isinstance(alt, ColumnDataSource) and alt.name == ALT_NAME:
        return _checked_alt(alt.data["text"][0])
    raise TypeError(f"show: alt is text or an alt_source, got {type(alt).__name__}")


def _checked_alt(text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"a figure's alt text must say what it shows, got {text!r}")
    return text.strip()
