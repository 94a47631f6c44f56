"""Weight and speed of the built site in Chromium, beside their bars.

The site is served with gzip on loopback. Each visit has a browser context of its own, so a first
visit starts from an empty cache. Times are medians over repeated visits, of the worst concept page
or slider. Run ``nox -s bench -- site``; the numbers depend on the machine, so nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from _browser import NOT_FOUND, launch_options
from _webserver import serve
from playwright.sync_api import Browser, CDPSession, Locator, Page, sync_playwright

SITE = Path(__file__).parents[1] / "docs" / "_build" / "html"
VISITS = 5
MOVES = 10
PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Line:
    """A network and a processor: megabits a second, milliseconds of latency, slowdown."""

    mbit_s: float
    latency_ms: float
    slowdown: float = 1


PHONE = Line(mbit_s=10, latency_ms=40, slowdown=4)
SLOW = Line(mbit_s=1.6, latency_ms=150)


@dataclass(frozen=True)
class Row:
    """One line of the result; ``bar`` is the most that ``value`` should be."""

    what: str
    value: float
    bar: float
    unit: str
    where: str


# Notes when the first figure stands on the screen, in milliseconds since the visit began. The
# figure is scrolled to at once: it is drawn only when it is near the window.
NOTE_FIRST_FIGURE = """
addEventListener("DOMContentLoaded", () => {
  const figure = document.querySelector("figure.aix-figure");
  if (!figure) return;
  figure.scrollIntoView();
  const frame = () => requestAnimationFrame(() => { window.firstFigureMs = performance.now(); });
  new MutationObserver(() => {
    if (figure.dataset.state === "ready") requestAnimationFrame(frame);
  }).observe(figure, { attributes: true, attributeFilter: ["data-state"] });
});
"""

# Notes when a pointer moved, and the end of the last frame in which a canvas was painted anew.
NOTE_REPAINTS = """
window.repaint = { moved: 0, ended: 0 };
const frameEnded = new MessageChannel();
frameEnded.port1.onmessage = () => { window.repaint.ended = performance.now(); };
const clearRect = CanvasRenderingContext2D.prototype.clearRect;
CanvasRenderingContext2D.prototype.clearRect = function (...box) {
  frameEnded.port2.postMessage(null);
  return clearRect.apply(this, box);
};
addEventListener("pointermove", () => { window.repaint.moved = performance.now(); }, true);
"""


@contextmanager
def new_page(
    browser: Browser, *, line: Line | None = None, script: str = ""
) -> Iterator[tuple[Page, CDPSession]]:
    """A page with an empty cache, on ``line``, and the session that controls it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    if script:
        page.add_init_script(script)
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    if line:
        bytes_s = line.mbit_s * 1e6 / 8
        session.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False, "latency": line.latency_ms,
                "downloadThroughput": bytes_s, "uploadThroughput": bytes_s,
            },
        )  # fmt: skip
        session.send("Emulation.setCPUThrottlingRate", {"rate": line.slowdown})
    yield page, session
    context.close()


def read_through(page: Page) -> tuple[int, int]:
    """Scroll to every figure and wait for it; how many were drawn, and how many there are.

    What is folded is opened first: a figure in there is drawn only then.
    """
    page.evaluate("document.querySelectorAll('details.aix-folded').forEach(d => d.open = true)")
    figures = page.locator("figure.aix-figure").all()
    for figure in figures:
        figure.scroll_into_view_if_needed()
        page.wait_for_function(
            "f => ['ready', 'failed'].includes(f.dataset.state)", arg=figure.element_handle()
        )
    page.wait_for_load_state("networkidle")
    return page.locator("figure.aix-figure[data-state=ready]").count(), len(figures)


def weigh(browser: Browser, home: str, pages: Sequence[str]) -> list[int]:
    """Bytes over the wire of each page, visited in this order with one cache, figures drawn."""
    weights = []
    with new_page(browser) as (page, session):
        received: list[float] = []
        session.on("Network.loadingFinished", lambda e: received.append(e["encodedDataLength"]))
        for name in pages:
            received.clear()
            page.goto(f"{home}/{name}")
            read_through(page)
            weights.append(int(sum(received)))
    return weights


def first_figure_s(browser: Browser, url: str, line: Line | None) -> float:
    """Seconds from the start of a first visit until its first figure stands on the screen."""
    times = []
    for _ in range(VISITS):
        with new_page(browser, line=line, script=NOTE_FIRST_FIGURE) as (page, _session):
            page.goto(url, wait_until="commit")
            page.wait_for_function("window.firstFigureMs")
            times.append(page.evaluate("window.firstFigureMs") / 1000)
    return statistics.median(times)


def missing_figures(browser: Browser, url: str, line: Line) -> int:
    """Figures of a first visit that could not be drawn."""
    with new_page(browser, line=line) as (page, _session):
        page.goto(url)
        drawn, there = read_through(page)
    return there - drawn


def repaint_ms(page: Page, handle: Locator) -> float:
    """Milliseconds from a drag's move to the end of the frame that shows its effect."""
    handle.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = handle.bounding_box()
    track = handle.evaluate("h => h.closest('.noUi-base').getBoundingClientRect().toJSON()")
    if box is None:
        raise RuntimeError(f"the slider {handle.get_attribute('aria-label')!r} is not visible")
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    times = []
    for move in range(MOVES):
        share = 0.1 + 0.8 * ((move * 0.37) % 1)
        page.mouse.move(track["left"] + share * track["width"], y)
        page.wait_for_timeout(150)
        seen = page.evaluate("window.repaint")
        if seen["ended"] > seen["moved"]:
            times.append(seen["ended"] - seen["moved"])
    page.mouse.up()
    return statistics.median(times) if times else float("nan")


def sliders(browser: Browser, url: str) -> Iterator[tuple[str, bool, float]]:
    """Name, whether a rule runs in the page, and milliseconds to repaint, of every slider."""
    with new_page(browser, script=NOTE_REPAINTS) as (page, _session):
        page.goto(url)
        read_through(page)
        for figure in page.locator("figure.aix-figure").all():
            has_rule = bool(figure.get_attribute("data-rules"))
            for handle in figure.get_by_role("slider").all():
                label = handle.get_attribute("aria-label") or "slider"
                yield label, has_rule, repaint_ms(page, handle)


def measure(browser: Browser, home: str, pages: Sequence[str]) -> list[Row]:
    """All rows; ``pages`` are addresses relative to ``home``."""
    concepts = [page for page in pages if page.startswith("concepts/")]
    if not concepts:
        raise SystemExit("the site holds no concept page to measure")
    first = {page: weigh(browser, home, [page])[0] for page in concepts}
    others = [page for page in pages if page != concepts[0]]
    later = dict(zip(others, weigh(browser, home, [concepts[0], *others])[1:], strict=True))
    rows = [
        worst("first visit to a concept page, all figures", first, 850, "kB", scale=1e-3),
        worst("a later page", later, 200, "kB", scale=1e-3),
    ]
    for what, line, bar in (
        ("first figure on localhost", None, 1.0),
        ("first figure at CPU/4, 10 Mbit/s, 40 ms", PHONE, 2.6),
    ):
        times = {page: first_figure_s(browser, f"{home}/{page}", line) for page in concepts}
        rows.append(worst(what, times, bar, "s"))
    missing = {page: missing_figures(browser, f"{home}/{page}", SLOW) for page in concepts}
    rows.append(worst("figures not drawn at 1.6 Mbit/s, 150 ms", missing, 0, "figures"))
    return rows + slider_rows(browser, home, concepts)


def slider_rows(browser: Browser, home: str, concepts: Sequence[str]) -> list[Row]:
    """The slowest slider of all, and the slowest of those whose rule runs in the page."""
    all_of, with_rule = {}, {}
    for page in concepts:
        for label, has_rule, time in sliders(browser, f"{home}/{page}"):
            all_of[f"{page}: {label}"] = time
            if has_rule:
                with_rule[f"{page}: {label}"] = time
    rows = [("slider to repaint", all_of, 50), ("the same, rule in the page", with_rule, 16)]
    return [worst(what, times, bar, "ms") for what, times, bar in rows if times]


def worst(what: str, values: dict[str, float], bar: float, unit: str, *, scale: float = 1) -> Row:
    """The row of the largest value and where it was."""
    where = max(values, key=lambda key: values[key])
    return Row(what, values[where] * scale, bar, unit, where)


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one a line."""
    lines = [f"{'what':<46}{'worst':>10}{'bar':>8}  unit     met  where"]
    for row in rows:
        met = "yes" if row.value <= row.bar else "NO"
        lines.append(
            f"{row.what:<46}{row.value:>10.2f}{row.bar:>8g}  {row.unit:<9}{met:<5}{row.where}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure the built site, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", nargs="?", type=Path, default=SITE, help="folder of the built site")
    parser.add_argument("--json", type=Path, help="file for the rows (default: beside the site)")
    options = parser.parse_args()
    launch = launch_options()
    if launch is None:
        raise SystemExit(NOT_FOUND)
    pages = sorted(
        path.relative_to(options.site).as_posix()
        for path in options.site.rglob("*.html")
        if not path.relative_to(options.site).parts[0].startswith("_")
    )
    with sync_playwright() as playwright, serve(options.site) as home:
        browser = playwright.chromium.launch(**launch)
        rows = measure(browser, home, pages)
        about = {"browser": browser.version, "machine": platform.machine()}
        browser.close()
    print(table(rows))
    result = {**about, "rows": [asdict(row) for row in rows]}
    target = options.json or options.site.parent / "bench-site.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"as JSON: {target}")


if __name__ == "__main__":
    main()
