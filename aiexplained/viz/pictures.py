"""Draw the pictures that pages show without JavaScript: one per figure, named by its hash.

    python -m aiexplained.viz.pictures docs/_build/html docs/_pictures

Needs playwright and an installed Chromium or Chrome; without them it says so, and the site stands
without pictures. A figure whose picture exists is not drawn again; pictures that no page refers
to are removed.
"""

from __future__ import annotations

import argparse
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
]
WIDTH, HEIGHT = 900, 1000
HASH = re.compile(r'<figure class="aix-figure"[^>]* data-hash="([0-9a-f]+)"')


def find_browser() -> str | None:
    """Path of a Chromium or Chrome on the ``PATH``, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def figures_by_page(site: Path) -> dict[Path, list[str]]:
    """Hashes of the figures of each built page, in the page's order.

    Raises:
        ValueError: if ``site`` is not a folder with pages.
    """
    pages = sorted(site.rglob("*.html"))
    if not pages:
        raise ValueError(f"{site} holds no built pages")
    found = {page: HASH.findall(page.read_text(encoding="utf-8")) for page in pages}
    return {page: hashes for page, hashes in found.items() if hashes}


def draw_pictures(site: Path, folder: Path) -> str:
    """Bring ``folder`` up to date with the pages in ``site``; return what was done, in words."""
    pages = figures_by_page(site)
    wanted = {name for hashes in pages.values() for name in hashes}
    folder.mkdir(parents=True, exist_ok=True)
    stale = [path for path in folder.glob("*.png") if path.stem not in wanted]
    for path in stale:
        path.unlink()
    missing = wanted - {path.stem for path in folder.glob("*.png")}
    if missing:
        try:
            _draw_missing(pages, missing, folder)
        except NoBrowser as problem:
            return f"{problem}; {len(missing)} of {len(wanted)} figures have no static picture"
    kept = len(wanted) - len(missing)
    return f"{len(missing)} pictures drawn, {kept} kept, {len(stale)} removed"


class NoBrowser(RuntimeError):
    """There is nothing here to draw with; the message says what is missing."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """An installed Chromium or Chrome, driven by playwright.

    Raises:
        NoBrowser: if one of the two is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoBrowser("playwright is not installed") from error
    program = find_browser()
    if program is None:
        raise NoBrowser(f"no browser on the PATH ({', '.join(BROWSERS)})")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def _draw_missing(pages: Mapping[Path, list[str]], missing: set[str], folder: Path) -> None:
    with open_browser() as browser:
        for page, hashes in pages.items():
            new = missing.intersection(hashes)
            if new:
                _draw_page(browser, page, new, folder)


def _draw_page(browser: Browser, path: Path, hashes: set[str], folder: Path) -> None:
    page = browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT},
        device_scale_factor=1,
        color_scheme="light",
        reduced_motion="reduce",
    )
    page.goto(path.resolve().as_uri())
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    page.evaluate("aiexplained.drawAll()")
    for name in sorted(hashes):
        figure = page.locator(f'figure[data-hash="{name}"]').first
        state = figure.get_attribute("data-state")
        if state != "ready":
            raise RuntimeError(f"{path.name}: figure {name} is {state}, not ready")
        figure.locator(".aix-drawing").screenshot(
            path=folder / f"{name}.png", animations="disabled", scale="css"
        )
    page.close()


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m aiexplained.viz.pictures")
    parser.add_argument("site", type=Path, help="folder with the built pages")
    parser.add_argument("pictures", type=Path, help="folder of the pictures")
    chosen = parser.parse_args(arguments)
    print(draw_pictures(chosen.site, chosen.pictures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
