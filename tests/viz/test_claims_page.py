"""The claims table in a real browser, at a desk and on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from aiexplained import viz
from aiexplained.registry import Concept, Reading

pytestmark = pytest.mark.browser


@pytest.fixture
def claims_page(
    site: Path, concept: Concept, readings: dict[str, Reading], open_page: Callable[..., Page]
) -> Callable[..., Page]:
    """Opens a page with the sample concept's claims."""
    table = viz.claims_table(concept, readings)._repr_mimebundle_()["text/html"]
    text = (site / "index.html").read_text(encoding="utf-8")
    (site / "claims.html").write_text(
        text[: text.index("<h1>")] + f"<h1>Claims</h1>{table}</main></body></html>", "utf-8"
    )
    return lambda **options: open_page("claims", **options)


@pytest.mark.parametrize("width", [360, 390, 900])
def test_claims_keep_their_table_roles_and_never_scroll_sideways(
    claims_page: Callable[..., Page], width: int
) -> None:
    page = claims_page(width=width)
    table = page.get_by_role("table", name="Claims about Made Up and what we find")
    assert table.get_by_role("row").count() == 4
    assert table.get_by_role("rowheader").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_rows_are_cards_on_a_phone_and_lines_at_a_desk(claims_page: Callable[..., Page]) -> None:
    tops = "cells => cells.map((cell) => Math.round(cell.getBoundingClientRect().top))"
    cells = "tbody tr:first-child > *"
    phone = claims_page(width=360).locator(cells).evaluate_all(tops)
    desk = claims_page(width=900).locator(cells).evaluate_all(tops)
    assert phone == sorted(set(phone))
    assert len(set(desk)) == 1


def test_the_command_is_one_click_away(claims_page: Callable[..., Page]) -> None:
    page = claims_page(width=900)
    expect(page.get_by_text("nox -s record -- made_up", exact=True)).to_be_hidden()
    page.get_by_text("How to rerun this").first.click()
    expect(page.get_by_text("nox -s record -- made_up", exact=True)).to_be_visible()


@pytest.mark.parametrize("width", [360, 900])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_claims_have_no_accessibility_violations(
    claims_page: Callable[..., Page], theme: str, width: int
) -> None:
    page = claims_page(width=width)
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page.get_by_text("How to rerun this").first.click()
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "preload": False}
    found = Axe().run(page, options=options).response["violations"]
    assert found == [], json.dumps(found, indent=1)
