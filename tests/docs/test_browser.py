"""Every page of the built site in a real browser: drawn, quiet, readable and operable.

The tests know no page by name: they run over the sources in ``docs`` and over whatever else the
build wrote.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from _browser import Watch
from _webserver import serve
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageStat
from playwright.sync_api import BrowserContext, ElementHandle, Locator, Page, expect

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
DOCS = Path(__file__).parents[2] / "docs"
SOURCES = sorted(
    path.relative_to(DOCS).with_suffix("").as_posix()
    for path in DOCS.rglob("*.md")
    if not any(part.startswith(("_", ".")) for part in path.relative_to(DOCS).parts)
)
CONCEPTS = [name for name in SOURCES if name.startswith("concepts/")]
EXECUTED = [name for name in SOURCES if "{code-cell}" in (DOCS / f"{name}.md").read_text("utf-8")]
AXE_OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
    "preload": False,  # axe would fetch the style sheets again
    "rules": {"region": {"enabled": False}},  # the theme's logo lies outside all landmarks
}
PATIENCE_MS = 30_000
REACTION_MS = 5_000
PRESS_MS = 600  # buttons that change nothing use it up, again and again

# What a figure shows: the data that it draws, and the sentence below it.
SHOWN = """figure => {
  const models = [...window.aiexplained.drawn.get(figure).doc.all_models];
  const plain = (key, value) => ArrayBuffer.isView(value) ? [...value]
    : value instanceof Map ? Object.fromEntries(value) : value;
  return models.filter(model => model.type === "ColumnDataSource")
    .map(model => JSON.stringify(model.data, plain))
    .concat(figure.querySelector(".aix-caption").textContent).join("\\n");
}"""
SHOWS_SOMETHING_ELSE = f"([figure, before]) => ({SHOWN})(figure) !== before"


def open_folds(page: Page) -> None:
    for summary in page.locator("details.aix-folded > summary").all():
        summary.click()


def draw_figures(page: Page) -> list[Locator]:
    """Open what is folded, scroll to each figure in turn, and wait until it is drawn."""
    open_folds(page)
    figures = page.locator("figure.aix-figure").all()
    for figure in figures:
        figure.scroll_into_view_if_needed()
        expect(figure).to_have_attribute("data-state", "ready", timeout=PATIENCE_MS)
    return figures


AT_REST = """() => Promise.allSettled(document.getAnimations()
  .filter(motion => motion.effect.getComputedTiming().iterations < Infinity)
  .map(motion => motion.finished))"""


def violations(page: Page) -> str:
    """What axe finds on the page, once colors have come to rest; empty if nothing."""
    page.evaluate(AT_REST)
    found = Axe().run(page, options=AXE_OPTIONS)
    return found.generate_report() if found.violations_count else ""


def sideways(page: Page) -> str:
    """Names what is wider than the window, if the page scrolls sideways."""
    return page.evaluate("""() => {
      const width = document.documentElement.clientWidth;
      if (document.scrollingElement.scrollWidth <= width) return "";
      return [...document.querySelectorAll("main *")]
        .filter(e => e.getBoundingClientRect().right > width + 1)
        .slice(0, 5).map(e => `${e.tagName}.${e.className}`).join(", ") || "the page";
    }""")


def changes(
    page: Page, figure: Locator, act: Callable[[], object], within_ms: float = REACTION_MS
) -> bool:
    """Whether the figure shows something else soon after ``act``."""
    element: ElementHandle | None = figure.element_handle()
    before = figure.evaluate(SHOWN)
    act()
    deadline = time.monotonic() + within_ms / 1000
    while time.monotonic() < deadline:
        if page.evaluate(SHOWS_SOMETHING_ELSE, [element, before]):
            return True
        page.wait_for_timeout(20)
    return False


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("docname", SOURCES)
def test_a_page_draws_fits_and_is_accessible(
    open_page: OpenPage, docname: str, theme: str, width: int
) -> None:
    page = open_page(docname, theme=theme, width=width)
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    draw_figures(page)
    assert not sideways(page)
    assert not violations(page)


@pytest.mark.parametrize("width", [1280, 390])
def test_generated_pages_are_quiet_accessible_and_fit(
    open_page: OpenPage, site: Path, width: int
) -> None:
    built = {
        path.relative_to(site).with_suffix("").as_posix()
        for path in site.rglob("*.html")
        if path.relative_to(site).parts[0] != "_static"
    }
    assert built >= set(SOURCES), "each source has a page"
    for docname in sorted(built - set(SOURCES)):
        page = open_page(docname, width=width)
        assert not sideways(page), docname
        assert not violations(page), docname


@pytest.mark.parametrize("docname", SOURCES)
def test_a_page_works_from_a_file(open_page: OpenPage, docname: str) -> None:
    page = open_page(docname, local=True)
    assert page.url.startswith("file://")
    draw_figures(page)


@pytest.mark.parametrize("docname", CONCEPTS)
def test_a_concept_page_has_two_live_figures_or_more(open_page: OpenPage, docname: str) -> None:
    figures = draw_figures(open_page(docname))
    assert len(figures) >= 2
    assert any(figure.get_by_role("slider").count() for figure in figures)


def drag(page: Page, handle: Locator) -> None:
    """Drag a slider's handle with the mouse into the other half of its track."""
    handle.hover()  # waits until the layout stands still
    start = handle.bounding_box()
    track = handle.evaluate("h => h.closest('.noUi-base').getBoundingClientRect().toJSON()")
    assert start is not None
    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    is_left = x < track["left"] + track["width"] / 2
    target = track["left"] + track["width"] * (0.85 if is_left else 0.15)
    page.mouse.down()
    page.mouse.move(target, y, steps=8)
    page.mouse.up()


def press_arrow(handle: Locator) -> None:
    """Move a slider one step with the keyboard, away from the nearer end."""
    now, low, high = (
        float(handle.get_attribute(f"aria-value{name}") or "nan") for name in ("now", "min", "max")
    )
    handle.press("ArrowRight" if now < (low + high) / 2 else "ArrowLeft")


@pytest.mark.parametrize("docname", EXECUTED)
def test_every_slider_moves_its_figure_by_mouse_and_by_keyboard(
    open_page: OpenPage, docname: str
) -> None:
    page = open_page(docname)
    for figure in draw_figures(page):
        for handle in figure.get_by_role("slider").all():
            name = handle.get_attribute("aria-label")
            assert changes(page, figure, lambda handle=handle: drag(page, handle)), f"drag {name}"
            assert changes(page, figure, lambda handle=handle: press_arrow(handle)), f"key {name}"


def dead_buttons(page: Page, figure: Locator) -> list[str]:
    """Buttons whose press changes nothing, neither at first nor after that of another button."""
    buttons = [button for button in figure.locator(".bk-btn").all() if button.is_enabled()]
    asleep = [button for button in buttons if not changes(page, figure, button.click, PRESS_MS)]

    def wakes(button: Locator, other: Locator) -> bool:
        other.click()
        return changes(page, figure, button.click, PRESS_MS)

    return [
        button.inner_text()
        for button in asleep
        if not any(wakes(button, other) for other in buttons if other is not button)
    ]


@pytest.mark.parametrize("docname", EXECUTED)
def test_every_button_does_something(open_page: OpenPage, docname: str) -> None:
    page = open_page(docname)
    for figure in draw_figures(page):
        assert not dead_buttons(page, figure)


@pytest.mark.parametrize("docname", EXECUTED)
def test_every_figure_offers_its_data_as_a_table(open_page: OpenPage, docname: str) -> None:
    page = open_page(docname)
    for figure in draw_figures(page):
        figure.locator(".aix-data > summary").click()
        expect(figure.locator(".aix-data tbody tr").first).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_is_right_before_anything_is_painted(open_page: OpenPage, theme: str) -> None:
    """As at the moment when the body begins: no script of the theme has run yet."""
    page = open_page("index", theme="dark" if theme == "light" else "light")
    page.emulate_media(color_scheme=theme)
    page.add_init_script("""
      new MutationObserver((_, observer) => {
        if (!document.body) return;
        window.atFirst = document.documentElement.dataset.theme;
        observer.disconnect();
      }).observe(document, { childList: true, subtree: true });
    """)
    page.wait_for_load_state("networkidle")  # a reload would abort what is still on its way
    page.reload(wait_until="networkidle")
    assert page.evaluate("window.atFirst") == theme


def brightness(figure: Locator) -> float:
    """Mean brightness of a figure as painted, 0 to 255."""
    shot = figure.locator(".aix-drawing").screenshot()
    return float(ImageStat.Stat(Image.open(io.BytesIO(shot)).convert("L")).mean[0])


@pytest.mark.parametrize("docname", CONCEPTS)
def test_figures_follow_the_theme_switch_while_open(open_page: OpenPage, docname: str) -> None:
    page = open_page(docname, theme="light")
    figures = draw_figures(page)
    before = [brightness(figure) for figure in figures]
    page.evaluate("scrollTo(0, 0)")
    page.locator(".theme-switch-button:visible").first.click()
    page.locator("[data-mode=dark]:visible").first.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.wait_for_timeout(300)
    after = [brightness(figure) for figure in figures]
    assert min(before) > 128 > max(after), f"{before} and then {after}"


@pytest.mark.parametrize("docname", EXECUTED)
def test_every_question_can_be_answered(open_page: OpenPage, docname: str) -> None:
    for question in open_page(docname).locator("aix-question").all():
        for choice in question.get_by_role("radio").all()[:1]:
            choice.press("Space")
        question.get_by_role("button", name="Check").click()
        expect(question.locator(".aix-live .aix-feedback").first).to_be_visible()


@pytest.mark.parametrize("docname", SOURCES)
def test_a_page_is_whole_without_javascript(open_page: OpenPage, site: Path, docname: str) -> None:
    page = open_page(docname, java_script_enabled=False)
    expect(page.locator("article h1")).to_be_visible()
    open_folds(page)
    for figure in page.locator("figure.aix-figure").all():
        expect(figure.locator(".aix-caption")).not_to_be_empty()
        expect(figure.locator(".aix-caption")).to_be_visible()
        if (site / "_static" / "aix-pictures").is_dir():
            expect(figure.locator("noscript img")).to_be_visible()
    for question in page.locator("aix-question").all():
        question.locator("summary").click()
        for feedback in question.locator(".aix-feedback").all():
            expect(feedback).to_be_visible()


@pytest.mark.parametrize(
    ("markup", "trouble"),
    [
        ("<script>console.warn('careful')</script>", "console warning: careful"),
        ("<script>missing()</script>", "page error"),
        ("<img src='absent.png'>", "status 404"),
        ("<img src='http://localhost:1/far.png'>", "foreign request"),
    ],
)
def test_the_watch_would_notice(
    new_context: Callable[..., BrowserContext], tmp_path: Path, markup: str, trouble: str
) -> None:
    (tmp_path / "index.html").write_text(f"<link rel=icon href=data:,>{markup}", encoding="utf-8")
    with serve(tmp_path) as address:
        context = new_context()
        watch = Watch(context, address)
        context.new_page().goto(f"{address}/index.html", wait_until="networkidle")
    assert any(noted.startswith(trouble) for noted in watch.troubles), watch.troubles


def test_the_width_check_would_notice_a_wide_table(open_page: OpenPage) -> None:
    page = open_page("index", width=390)
    page.evaluate("document.querySelector('main').innerHTML = '<pre>' + 'wide '.repeat(99)")
    page.add_style_tag(content="main pre { width: 900px }")
    assert sideways(page)
