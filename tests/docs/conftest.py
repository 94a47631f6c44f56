"""The whole site, built once, and a browser that reports everything that goes wrong in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _browser import Watch
from _webserver import serve
from playwright.sync_api import BrowserContext, Page

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the built site: the one that ``AIX_SITE`` names, or built here from nothing."""
    built = os.environ.get("AIX_SITE")
    if built:
        assert (Path(built) / "index.html").is_file(), f"AIX_SITE={built} holds no built site"
        return Path(built).resolve()
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


@pytest.fixture
def open_page(
    new_context: Callable[..., BrowserContext], base_url: str, site: Path
) -> Iterator[Callable[..., Page]]:
    """Function that opens a page of the site in a browser of its own, watched.

    ``open_page("concepts/x", theme="dark", width=390)``; ``local=True`` opens the file instead, and
    other options go to the browser context. The test fails in the end if anything was noted.
    """
    watches = []

    def open_one(
        docname: str,
        *,
        theme: str = "light",
        width: int = 1280,
        local: bool = False,
        query: str = "",
        **options: Any,
    ) -> Page:
        home = site.as_uri() if local else base_url
        context = new_context(
            color_scheme=theme, viewport={"width": width, "height": 800}, **options
        )
        watches.append(Watch(context, home))
        page = context.new_page()
        page.goto(f"{home}/{docname}.html{query}")
        return page

    yield open_one
    troubles = [trouble for watch in watches for trouble in watch.troubles]
    assert not troubles, "\n".join(troubles)


@pytest.fixture
def watched(open_page: Callable[..., Page]) -> Page:
    """The site's start page, watched."""
    return open_page("index")
