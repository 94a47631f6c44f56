"""What a figure holds, read from its document; and figures on a page, drawn by a browser."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from aiexplained import viz
from aiexplained.viz.assets import rule_file
from aiexplained.viz.html import figure_html


def sources_with(figure: viz.Explorable, column: str) -> list[dict[str, Any]]:
    """Data of every source that has a column of this name."""
    return _sources_with(column, json.loads(figure.drawing.item))


def _sources_with(column: str, node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for child in node for found in _sources_with(column, child)]
    if not isinstance(node, dict):
        return []
    attributes = node.get("attributes", {})
    entries = attributes.get("data", {}) if node.get("name") == "ColumnDataSource" else {}
    own = dict(entries.get("entries", ())) if isinstance(entries, dict) else {}
    return [own] * (column in own) + [
        found for child in node.values() for found in _sources_with(column, child)
    ]


def numbers(source: Any, *names: str) -> list[Any]:
    """Rows of a source, of these columns."""
    return list(zip(*(source[name] for name in names), strict=True))


def attributes_of(figure: viz.Explorable, kind: str) -> list[dict[str, Any]]:
    """Attributes of all Bokeh models of one kind in a figure."""
    found, todo = [], [json.loads(figure.drawing.item)]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if node.get("name") == kind and "attributes" in node:
                found.append(node["attributes"])
            node = list(node.values())
        todo += node if isinstance(node, list) else []
    return found


def title_of(figure: viz.Explorable) -> str:
    """The title that follows the controls, in the first state."""
    ((text,),) = (source["title"] for source in sources_with(figure, "title"))
    return text


def page_with_rules(browser: Browser, *names: str) -> Iterator[Page]:
    """A page that has loaded these scripts of ``viz/rules`` and nothing else; then closes it."""
    page = browser.new_page()
    for name in names:
        page.add_script_tag(path=rule_file(name))
    yield page
    page.close()


def write_figures(site: Path, name: str, figures: Iterable[viz.Explorable]) -> None:
    """A page of the sample site that carries these figures."""
    head = (site / "index.html").read_text("utf-8").partition("<p>")[0]
    body = "".join(figure_html(figure.drawing) for figure in figures)
    (site / f"{name}.html").write_text(f"{head}{body}</main></body></html>", "utf-8")


def drawn_figures(page: Page) -> list[Locator]:
    """All figures of the page, once each is drawn."""
    found = page.locator("figure.aix-figure").all()
    for figure in found:
        figure.scroll_into_view_if_needed()
        expect(figure).to_have_attribute("data-state", "ready", timeout=30_000)
    return found
