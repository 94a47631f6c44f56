"""Pages on paper: text and figures, no controls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from test_browser import CONCEPTS, PATIENCE_MS, sideways

pytestmark = pytest.mark.browser
A4_WIDTH = 794
UNWANTED = (".bd-sidebar-primary", ".prev-next-footer", ".aix-answers", ".cell details.hide")


@pytest.fixture
def printed(open_page: Callable[..., Page]) -> Callable[[str], Page]:
    """Function that opens a page as the browser's print dialog would see it."""

    def open_printed(docname: str) -> Page:
        page = open_page(docname, width=A4_WIDTH)
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        return page

    return open_printed


@pytest.mark.parametrize("docname", CONCEPTS)
def test_figures_and_folded_parts_are_printed(printed: Callable[[str], Page], docname: str) -> None:
    page = printed(docname)
    assert page.locator("figure.aix-figure").count() >= 2
    for figure in page.locator("figure.aix-figure").all():
        expect(figure).to_have_attribute("data-state", "ready", timeout=PATIENCE_MS)
        expect(figure.locator(".aix-drawing")).to_be_visible()
    assert not sideways(page)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.aix-folded[open]").count() == 0


@pytest.mark.parametrize("docname", CONCEPTS)
def test_controls_answers_and_the_code_behind_figures_are_not(
    printed: Callable[[str], Page], docname: str
) -> None:
    page = printed(docname)
    for unwanted in UNWANTED:
        parts = page.locator(unwanted).all()
        assert parts, f"{unwanted} names nothing on this page"
        for part in parts:
            expect(part).to_be_hidden()
