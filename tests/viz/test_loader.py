"""Figures in a real browser, on a hand-made page: drawn, driven, themed, named and tabulated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from aiexplained import viz
from aiexplained.viz.html import figure_html

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
    "preload": False,
}
COLUMN = """(figure, [name, key]) => {
  const {doc} = aiexplained.drawn.get(figure);
  const source = [...doc.all_models].find((model) => model.name === name);
  return Array.from(source.data[key]);
}"""


def drawn(page: Page, number: int = 0) -> Locator:
    figure = page.locator("figure.aix-figure").nth(number)
    expect(figure).to_have_attribute("data-state", "ready", timeout=30_000)
    return figure


def values(figure: Locator, key: str = "y", name: str = "value-by-position") -> list[float]:
    return [round(v, 3) for v in figure.evaluate(COLUMN, [name, key])]


def expected(i: int, j: int) -> list[float]:
    grid = np.arange(5 * 3 * 7).reshape(5, 3, 7) / 10
    return [round(float(v), 3) for v in grid[i, j]]


def drag(page: Page, handle: Locator, dx: float) -> None:
    box = handle.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y, steps=8)
    page.mouse.up()


def corner(figure: Locator) -> tuple[int, ...]:
    """Color of the plot's top left pixel, as painted."""
    from io import BytesIO

    from PIL import Image

    png = figure.locator(".bk-Figure").first.screenshot()
    return Image.open(BytesIO(png)).convert("RGB").getpixel((2, 2))


@pytest.mark.parametrize("local", [False, True], ids=["served", "from a file"])
def test_dragging_the_slider_changes_data_and_caption(open_page: OpenPage, local: bool) -> None:
    page = open_page("index", local=local)
    figure = drawn(page)
    assert values(figure) == expected(2, 1)
    drag(page, figure.get_by_role("slider", name="Temperature"), 2000)
    assert values(figure) == expected(4, 1)
    text = "At temperature 2.0 the sorted order has value 4-1."
    expect(figure.locator("figcaption")).to_have_text(text)
    expect(figure.get_by_role("group", name=text)).to_be_visible()


def test_the_keyboard_moves_the_slider_and_says_the_label(open_page: OpenPage) -> None:
    page = open_page("index")
    figure = drawn(page)
    slider = figure.get_by_role("slider", name="Temperature")
    expect(slider).to_have_attribute("aria-valuetext", "0.5")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert values(figure) == expected(3, 1)
    expect(slider).to_have_attribute("aria-valuetext", "1.0")
    page.keyboard.press("Home")
    assert values(figure) == expected(0, 1)
    expect(slider).to_have_attribute("aria-valuetext", "0.1")


def test_buttons_say_which_is_chosen(open_page: OpenPage) -> None:
    figure = drawn(open_page("index"))
    group = figure.get_by_role("group", name="Order of the passages", exact=True)
    pressed = [button.get_attribute("aria-pressed") for button in group.get_by_role("button").all()]
    assert pressed == ["false", "true", "false"]
    group.get_by_role("button", name="Greedy").click()
    assert values(figure) == expected(2, 2)
    expect(group.get_by_role("button", name="Greedy")).to_have_attribute("aria-pressed", "true")


def test_page_rules_are_loaded_before_the_figure_that_needs_them(open_page: OpenPage) -> None:
    page = open_page("index")
    page.locator("figure.aix-figure").nth(1).scroll_into_view_if_needed()
    figure = drawn(page, 1)
    select = figure.get_by_label("Numbers")
    select.select_option("even")
    read = "(f) => [...aiexplained.drawn.get(f).doc.all_models].find((m) => m.name === 'median')"
    source = f"Array.from(({read})(figure).data.y)"
    assert figure.evaluate(f"(figure) => {source}") == [2.5] * 4
    select.select_option("odd")
    assert figure.evaluate(f"(figure) => {source}") == [2] * 4


def test_the_table_shows_the_numbers_of_the_current_state(open_page: OpenPage) -> None:
    page = open_page("index")
    figure = drawn(page)
    figure.get_by_text("Data as a table").click()
    table = figure.get_by_role("table", name="Value by position")
    headers = table.get_by_role("columnheader").all_text_contents()
    assert headers == ["Position (blocks)", "Value (%)"]
    cells = [float(text) for text in table.locator("td").all_text_contents()]
    assert cells[0::2] == list(range(7))
    assert cells[1::2] == expected(2, 1)
    figure.get_by_role("slider").focus()
    page.keyboard.press("End")
    expect(table.locator("td").nth(1)).to_have_text(str(expected(4, 1)[0]))


def test_the_theme_switch_repaints_live(open_page: OpenPage) -> None:
    page = open_page("index")
    figure = drawn(page)
    text_color = """(figure) => [...aiexplained.drawn.get(figure).doc.all_models]
      .find((model) => model.type === "Text").text_color.value"""
    assert corner(figure) == (255, 255, 255)
    assert figure.evaluate(text_color) == "#222832"
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(300)
    assert corner(figure) == (0x14, 0x18, 0x1E)
    assert figure.evaluate(text_color) == "#ced6dd"


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_shows_everything_without_sideways_scrolling(
    open_page: OpenPage, width: int
) -> None:
    page = open_page("index", width=width)
    figure = drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inner = figure.locator(".bk-Figure").first.bounding_box()
    assert inner is not None
    assert inner["x"] >= 0
    assert inner["x"] + inner["width"] <= width
    title = """(figure) => [...aiexplained.drawn.get(figure).doc.all_models]
      .find((model) => model.type === "Title" && model.text).text"""
    lines = figure.evaluate(title).split("\n")
    assert " ".join(lines) == (
        "A finding that takes a whole sentence and so has to be wrapped on a phone"
    )
    assert len(lines) > 1


@pytest.mark.parametrize("width", [360, 900])
def test_nothing_jumps_when_a_figure_is_drawn(open_page: OpenPage, width: int) -> None:
    page = open_page("index", width=width, java_script_enabled=False)
    waiting = page.locator(".aix-drawing").first.bounding_box()
    page = open_page("index", width=width)
    ready = drawn(page).locator(".aix-drawing").bounding_box()
    assert waiting is not None
    assert ready is not None
    assert abs(waiting["height"] - ready["height"]) <= 4


def test_a_finger_scrolls_the_page_over_the_plot(open_page: OpenPage) -> None:
    page = open_page("far", width=390, has_touch=True, is_mobile=True)
    figure = drawn(page)
    box = figure.locator(".bk-Figure").first.bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    x, y = box["x"] + 150, box["y"] + 250

    def touch(kind: str, *points: dict[str, float]) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    touch("touchStart", {"x": x, "y": y})
    for step in range(1, 11):
        touch("touchMove", {"x": x, "y": y - 20 * step})
        page.wait_for_timeout(20)
    touch("touchEnd")
    page.wait_for_function("scrollY > 100")


def test_figures_are_drawn_when_the_reader_comes_near(open_page: OpenPage) -> None:
    page = open_page("far")
    drawn(page)
    far = page.locator("figure.aix-figure").nth(1)
    expect(far).to_have_attribute("data-state", "waiting")
    far.scroll_into_view_if_needed()
    drawn(page, 1)
    scripts = page.locator("script[src*='bokeh']").evaluate_all("all => all.map((s) => s.src)")
    assert len(scripts) == len(set(scripts)) == 2, "BokehJS is loaded once"


def test_printing_draws_what_is_left(open_page: OpenPage) -> None:
    page = open_page("far")
    drawn(page)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    drawn(page, 1)


def test_reduced_motion_is_known_to_rules(open_page: OpenPage) -> None:
    assert open_page("index", reduced_motion="reduce").evaluate("aiexplained.reducedMotion()")
    assert not open_page("index").evaluate("aiexplained.reducedMotion()")


def test_a_failed_figure_says_so_and_keeps_its_caption(page: Page, base_url: str) -> None:
    page.goto(f"{base_url}/damaged.html")
    figure = page.locator("figure.aix-figure")
    expect(figure).to_have_attribute("data-state", "failed", timeout=30_000)
    expect(figure).to_contain_text("This figure could not be drawn")
    expect(figure.locator("figcaption")).to_contain_text("At temperature 0.5")


def test_a_missing_script_is_named(page: Page, base_url: str) -> None:
    page.route("**/bokeh-widgets-*.js", lambda route: route.abort())
    page.goto(f"{base_url}/index.html")
    figure = page.locator("figure.aix-figure").first
    expect(figure).to_have_attribute("data-state", "failed", timeout=30_000)
    expect(figure).to_contain_text(re.compile(r"bokeh-widgets-[\d.]+\.min\.js could not be loaded"))


def test_without_javascript_caption_and_note_are_there(open_page: OpenPage) -> None:
    page = open_page("index", java_script_enabled=False)
    figure = page.locator("figure.aix-figure").first
    expect(figure.locator("figcaption")).to_contain_text("At temperature 0.5 the sorted order")
    expect(figure.locator(".aix-noscript")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_have_no_accessibility_violations(open_page: OpenPage, theme: str) -> None:
    page = open_page("index")
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page.evaluate("aiexplained.drawAll()")
    drawn(page).get_by_text("Data as a table").click()
    drawn(page, 1)
    found = Axe().run(page, options=AXE).response["violations"]
    assert found == [], json.dumps(found, indent=1)


def test_a_slider_step_reaches_the_screen_within_fifty_milliseconds(open_page: OpenPage) -> None:
    page = open_page("index")
    figure = drawn(page)
    script = """async (figure) => {
      const {doc} = aiexplained.drawn.get(figure);
      const slider = [...doc.all_models].find((model) => model.type === "Slider");
      const times = [];
      for (const value of [0, 1, 2, 3, 4, 3, 2, 1, 0]) {
        const start = performance.now();
        slider.value = value;
        times.push(performance.now() - start);
        await new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
      }
      return times.sort((a, b) => a - b)[4];
    }"""
    assert figure.evaluate(script) < 50


def test_a_notebook_output_draws_itself_with_bokehjs_from_its_own_host(
    page: Page, tmp_path: Path, make_grid_figure: Callable[[], viz.Explorable], site: Path
) -> None:
    requests: list[str] = []

    def answer(route: Any) -> None:
        requests.append(route.request.url)
        name = route.request.url.rsplit("/", 1)[1]
        path = site / "_static" / "aix" / "bokeh" / name
        headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
        route.fulfill(path=path, headers=headers)

    page.route(re.compile("^https://"), answer)
    output = make_grid_figure()._repr_mimebundle_()["text/html"]
    (tmp_path / "notebook.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>n</title><body>{output}{output}',
        encoding="utf-8",
    )
    page.goto((tmp_path / "notebook.html").as_uri())
    assert values(drawn(page)) == expected(2, 1)
    page.locator("figure.aix-figure").nth(1).scroll_into_view_if_needed()
    drawn(page, 1)
    version = make_grid_figure().drawing.bokeh
    files = [f"{part}-{version}.min.js" for part in ("bokeh", "bokeh-widgets")]
    assert requests == [f"https://cdn.bokeh.org/bokeh/release/{name}" for name in files]


def test_figures_in_a_document_apart_are_drawn_from_it(
    open_page: OpenPage, site: Path, make_grid_figure: Callable[[], viz.Explorable]
) -> None:
    from aiexplained.viz.render import ISLAND

    drawing = make_grid_figure().drawing
    folder = site / "_static" / "aix" / "documents"
    folder.mkdir(exist_ok=True)
    script = f"aiexplained.documents[{json.dumps(drawing.digest)}] = {json.dumps(drawing.item)};"
    (folder / f"{drawing.digest}.js").write_text(script, encoding="utf-8")
    text = (site / "index.html").read_text(encoding="utf-8")
    island = ISLAND.search(figure_html(drawing))
    assert island is not None
    (site / "apart.html").write_text(text.replace(island[0], ""), encoding="utf-8")
    figure = drawn(open_page("apart", local=True))
    assert values(figure) == expected(2, 1)
