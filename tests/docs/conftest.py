"""The whole site, built once, and a browser that reports everything that goes wrong in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _webserver import serve
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last: while they run, the browser's event loop runs in this thread."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the built site: the one that ``AIX_SITE`` names, or built here from nothing."""
    built = os.environ.get("AIX_SITE")
    if built:
        assert (Path(built) / "index.html").is_file(), f"AIX_SITE={built} holds no built site"
        return Path(built)
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable, "-m", "sphinx", "-b", "html", "-n", "-W", "--keep-going", "-q", "-j", "2",
        "-d", folder / "doctrees", DOCS, folder / "html",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the site does not build without warnings:\n{done.stderr}"
    return folder / "html"


@pytest.fixture(scope="session")
def base_url(site: Path) -> Iterator[str]:
    """Address of the site on this machine; ``page.goto("/index.html")`` is relative to it."""
    with serve(site) as address:
        yield address


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """An installed Chromium or Chrome; without one, CI fails and others skip."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        missing = f"none of {', '.join(BROWSERS)} is on the path (Debian: apt-get install chromium)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return {
        **browser_type_launch_args, "executable_path": program, "args": list(BROWSER_ARGUMENTS),
    }  # fmt: skip


class Watch:
    """Notes whatever a page should not do: messages, errors, failed and foreign requests."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.troubles: list[str] = []

    def attach(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self._note("page error", str(error.error)))
        context.on("request", self._request)
        context.on("requestfailed", lambda r: self._note("failed", f"{r.url} {r.failure}"))
        context.on("response", self._response)

    def _note(self, kind: str, text: str) -> None:
        self.troubles.append(f"{kind}: {text}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._note(f"console {message.type}", f"{message.text} at {message.location}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.home, "data:", "blob:", "about:")):
            self._note("foreign request", request.url)

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"status {response.status}", response.url)


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(
    new_context: Callable[..., BrowserContext], base_url: str, site: Path
) -> Iterator[OpenPage]:
    """Function that opens a page of the site in a browser of its own, watched.

    ``open_page("concepts/x", theme="dark", width=390)``; ``local=True`` opens the file instead, and
    other options go to the browser context. The test fails in the end if anything was noted.
    """
    watches = []

    def open_one(
        docname: str, *, theme: str = "light", width: int = 1280, local: bool = False, **options: Any
    ) -> Page:
        watch = Watch(site.as_uri() if local else base_url)
        watches.append(watch)
        context = new_context(
            color_scheme=theme, viewport={"width": width, "height": 800}, **options
        )  # fmt: skip
        watch.attach(context)
        page = context.new_page()
        page.goto(f"{watch.home}/{docname}.html")
        return page

    yield open_one
    troubles = [trouble for watch in watches for trouble in watch.troubles]
    assert not troubles, "\n".join(troubles)


@pytest.fixture
def watched(open_page: OpenPage) -> Page:
    """The site's start page, watched."""
    return open_page("index")
