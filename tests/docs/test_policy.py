"""The site satisfies a content-security policy; every browser test runs under it."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from _browser import Watch
from _webserver import headers_for_all, serve
from aixdocs import policy
from playwright.sync_api import BrowserContext
from tiny import Site


def test_the_policy_is_written_beside_the_pages(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.page("one", "# One\n")
    built = site.build()
    assert built.warnings == ""
    headers = headers_for_all(built.out)
    assert headers["Content-Security-Policy"] == policy.policy()
    assert "script-src 'self'" in policy.policy()
    assert "unsafe-inline" not in policy.POLICY["script-src"]


def test_the_theme_writes_no_script_into_a_page(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.page("one", "# One\n")
    conf = (tmp_path / "docs" / "conf.py").read_text(encoding="utf-8")
    site.write("docs/conf.py", conf.replace('"basic"', '"sphinx_book_theme"') + TEMPLATES)
    built = site.build()
    assert built.warnings == ""
    assert "DOCUMENTATION_OPTIONS." not in built.html("index")
    assert "<script>" not in built.html("index") + built.html("search")


TEMPLATES = f'templates_path = ["{Path(__file__).parents[2].as_posix()}/docs/_templates"]\n'


@pytest.mark.browser
def test_all_pages_are_served_under_the_policy(site: Path, base_url: str) -> None:
    with urllib.request.urlopen(f"{base_url}/index.html") as answer:
        assert answer.headers["Content-Security-Policy"] == policy.policy()


@pytest.mark.browser
@pytest.mark.parametrize(
    "markup", ["<script>window.ran = true</script>", "<img src='https://example.org/a.png'>"]
)
def test_the_watch_notices_what_the_policy_forbids(
    new_context: Callable[..., BrowserContext], tmp_path: Path, markup: str
) -> None:
    (tmp_path / "index.html").write_text(f"<title>Page</title>{markup}", encoding="utf-8")
    (tmp_path / "_headers").write_text(
        f"/*\n  Content-Security-Policy: {policy.policy()}\n", encoding="ascii"
    )
    with serve(tmp_path) as address:
        context = new_context()
        watch = Watch(context, address)
        page = context.new_page()
        page.goto(f"{address}/index.html", wait_until="networkidle")
        assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in trouble for trouble in watch.troubles), watch.troubles
