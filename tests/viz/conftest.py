"""Sample figures, a hand-made page that carries them, and a page that tolerates no complaint."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _browser import Watch
from _webserver import serve
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, CustomJS, Label, Select
from playwright.sync_api import BrowserContext, Page

from aiexplained import viz
from aiexplained.registry import Claim, Concept, Kind, Reading, Source, Verdict
from aiexplained.viz.html import figure_html

TEMPERATURES = (0.1, 0.25, 0.5, 1.0, 2.0)
ORDERS = ("Retrieval", "Sorted", "Greedy")
ROWS = 7  # all three sizes differ, so that a swapped axis cannot pass

THEME = """
html { --pst-color-background: #fff; --pst-color-surface: #f3f4f5; --pst-color-text-base: #222832;
  --pst-color-text-muted: #48566b; --pst-color-border: #d1d5da; --pst-color-primary: #0a7d91; }
html[data-theme=dark] { --pst-color-background: #14181e; --pst-color-surface: #29313d;
  --pst-color-text-base: #ced6dd; --pst-color-text-muted: #9ca4af; --pst-color-border: #48566b;
  --pst-color-primary: #3fb1c5; }
body { max-width: 760px; margin: 0 auto; padding: 16px; font: 16px/1.6 sans-serif;
  background: var(--pst-color-background); color: var(--pst-color-text-base); }
"""


def grid_values() -> np.ndarray:
    """Values of the sample grid, shape (temperatures, orders, rows)."""
    shape = (len(TEMPERATURES), len(ORDERS), ROWS)
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape) / 10


def grid_alt(i: int, j: int) -> str:
    return f"At temperature {TEMPERATURES[i]} the {ORDERS[j].lower()} order has value {i}-{j}."


@pytest.fixture(scope="session")
def make_grid_figure() -> Callable[[], viz.Explorable]:
    """A slider and buttons over a precomputed grid, with a finding that follows them."""

    def make() -> viz.Explorable:
        values = grid_values()
        source = ColumnDataSource({"x": np.arange(ROWS), "y": values[0, 0]})
        viz.data_table(source, "Value by position", {"x": "Position (blocks)", "y": "Value (%)"})
        alt = viz.alt_source("to be set")
        slider = viz.index_slider("Temperature", TEMPERATURES, 2)
        order = viz.choice("Order of the passages", ORDERS, 1)
        alts = [[grid_alt(i, j) for j in range(3)] for i in range(5)]
        viz.bind_grid([slider, order], {source: {"y": values}}, alt=alt, alts=alts)
        title = "A finding that takes a whole sentence and so has to be wrapped on a phone"
        plot = viz.figure(title, x_axis_label="Position (blocks)", y_axis_label="Value (%)")
        color = viz.PALETTE["greedy"]
        plot.vbar(x="x", top="y", width=0.7, source=source, color=color, legend_label="value")
        plot.text(x=[1], y=[5], text=["plain"], name="plain")
        plot.add_layout(Label(x=2, y=6, text="own", text_color=viz.PALETTE["warning"]))
        return viz.show(column(row(slider, order), plot), alt=alt)

    return make


@pytest.fixture(scope="session")
def make_rule_figure() -> Callable[[], viz.Explorable]:
    """A drop-down whose callback calls a page rule."""

    def make() -> viz.Explorable:
        source = ColumnDataSource({"x": [1, 2, 3, 4], "y": [0, 0, 0, 0]}, name="median")
        select = Select(title="Numbers", options=["odd", "even"], value="odd")
        code = """
          const values = select.value === "even" ? [4, 1, 3, 2] : [3, 1, 2];
          const {median} = aiexplained.rules.cacheweaver;
          source.data = {...source.data, y: Array(4).fill(median(values))};
        """
        select.js_on_change("value", CustomJS(args={"source": source, "select": select}, code=code))
        plot = viz.figure("A rule runs in the page", height=200)
        plot.scatter("x", "y", source=source, color=viz.PALETTE["reused"])
        return viz.show(column(select, plot), alt="Rule.", rules=["cacheweaver"])

    return make


@pytest.fixture
def concept() -> Concept:
    """Three claims: one reproduced, one in direction only, one that cannot be tested."""
    source = Source(
        "doe2026", "A <bold> title", "Jane Doe, John Roe", "2026-02-03", "https://doe.example/"
    )
    shared = {"where": "Table 2", "source": "doe2026", "unit": "%"}
    return Concept(
        name="made_up", title="Made Up", tag="Serving", headline="h", summary="s",
        date="2026-02-03", sources=(source,),
        claims=(
            Claim("first-token", "Time to the first token falls", "−20 % to −33 %",
                  kind=Kind.MEASURED, verdict=Verdict.REPRODUCED,
                  reported_low=-33, reported_high=-20, direction_zero=0.0,
                  rerun="nox -s record -- made_up", **shared),
            Claim("memory", "Memory falls", "−50 %", kind=Kind.RECORDED, verdict=Verdict.DIRECTION,
                  reported_low=-50, reported_high=-50, direction_zero=0.0, study="memory",
                  **shared),
            Claim("scale", "It holds at 1T parameters", "yes", kind=Kind.NONE,
                  verdict=Verdict.NOT_TESTABLE, why="We have no such model.", **shared),
        ),
    )  # fmt: skip


@pytest.fixture
def readings() -> dict[str, Reading]:
    return {
        "first-token": Reading(-27.04, -29.5, -25.0, "Five seeds of 200 requests.", 5),
        "memory": Reading(-12.0, -13.0, -11.0, "One trace, bootstrapped.", 1000),
    }


def write_page(folder: Path, name: str, body: str) -> Path:
    """A bare page in the clothes of the site's theme."""
    page = folder / name
    page.write_text(
        '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Sample</title>'
        f'<link rel="icon" href="data:,"><style>{THEME}</style>'
        '<link rel="stylesheet" href="_static/aix/explorables.css">'
        '<script defer src="_static/aix/explorables.js"></script></head>'
        f"<body><main><h1>Sample</h1>{body}</main></body></html>",
        encoding="utf-8",
    )
    return page


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    make_grid_figure: Callable[[], viz.Explorable],
    make_rule_figure: Callable[[], viz.Explorable],
) -> Path:
    """Folder with the static files and pages ``index.html`` and ``far.html``."""
    folder = tmp_path_factory.mktemp("figures")
    for name, path in viz.static_files().items():
        target = folder / "_static" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    grid, rule = (figure_html(make().drawing) for make in (make_grid_figure, make_rule_figure))
    write_page(folder, "index.html", f"<p>Before.</p>{grid}<p>Between.</p>{rule}<p>After.</p>")
    write_page(folder, "far.html", f'{grid}<div style="height: 6000px"></div>{rule}')
    damaged = grid.replace('"type":"object"', '"type":"nonsense"')
    write_page(folder, "damaged.html", damaged)
    return folder


@pytest.fixture(scope="session")
def base_url(site: Path) -> Iterator[str]:
    """Where the pages are served; ``page.goto("/index.html")`` is relative to it."""
    with serve(site) as address:
        yield address


@pytest.fixture
def open_page(
    new_context: Callable[..., BrowserContext], site: Path, base_url: str
) -> Iterator[Callable[..., Page]]:
    """Function that opens a page of the site in a context of its own, watched.

    ``local=True`` opens the file; other options go to the browser context. In the end the test
    fails on any console error or warning, failed request, or request to another host.
    """
    watches = []

    def open_one(name: str, *, width: int = 900, local: bool = False, **options: Any) -> Page:
        home = site.as_uri() if local else base_url
        context = new_context(viewport={"width": width, "height": 800}, **options)
        watches.append(Watch(context, home))
        page = context.new_page()
        page.goto(f"{home}/{name}.html")
        return page

    yield open_one
    troubles = [trouble for watch in watches for trouble in watch.troubles]
    assert not troubles, "\n".join(troubles)
