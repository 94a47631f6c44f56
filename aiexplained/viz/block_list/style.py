"""What the block-list figures share: colors, and a title that follows the controls."""

from __future__ import annotations

from typing import Any

from bokeh.models import ColumnDataSource, CustomJS

from aiexplained.viz.theme import PALETTE

OURS, THEIRS = PALETTE["reused"], PALETTE["computed"]
HATCH = {"hatch_pattern": "/", "hatch_color": "#ffffff", "hatch_weight": 0.7}


def title_source(text: str) -> ColumnDataSource:
    """A source whose column ``title`` a grid may change; see :func:`follow_title`."""
    return ColumnDataSource({"title": [text]}, name="aix-title")


def follow_title(plot: Any, source: ColumnDataSource) -> None:
    """Let the title of ``plot`` be what :func:`title_source` says, now and later."""
    plot.title.text = source.data["title"][0]
    code = "title.text = source.data.title[0]"
    source.js_on_change("data", CustomJS(args={"source": source, "title": plot.title}, code=code))
