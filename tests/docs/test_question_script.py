"""Questions in a browser: what happens when a reader answers, by keyboard and from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect
from tiny import Site

pytestmark = pytest.mark.browser

TEXT = """# Questions

:::{predict}
How many?

- ( ) One :: Too few.
- (x) Two :: As it should be.
- ( ) Three :: Too many.

The reveal of the prediction.
:::

:::{recall}
Which?

- (x) This :: Yes, this.
- ( ) That :: No, not that.

The reveal of the recall.
:::

:::{predict}
:guess: 0 80 5 ms
:answer: 20

How long?

The reveal of the guess.
:::
"""


@pytest.fixture(scope="session")
def base_url() -> None:
    """None: the pages are opened as files, and the whole site is not needed here."""


@pytest.fixture
def page(tmp_path: Path, new_context: Callable[..., BrowserContext]) -> Page:
    site = Site(tmp_path)
    site.page("q", TEXT)
    built = site.build()
    page = new_context().new_page()
    page.goto((built.out / "pages/q.html").as_uri())
    return page


def question(page: Page, number: int) -> Locator:
    return page.locator("aix-question").nth(number)


def live(page: Page, number: int) -> Locator:
    return question(page, number).locator(".aix-live")


def test_nothing_is_told_before_the_reader_checks(page: Page) -> None:
    radios = question(page, 0).get_by_role("radio")
    check = question(page, 0).get_by_role("button", name="Check")
    expect(check).to_be_disabled()
    radios.first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    expect(radios.nth(1)).to_be_checked()
    expect(check).to_be_enabled()
    expect(live(page, 0)).to_be_empty()
    expect(page.get_by_text("The reveal of the prediction.")).to_be_hidden()
    expect(page.get_by_text("Show the answer").first).to_be_hidden()


def test_a_wrong_prediction_gets_the_right_answer_and_the_reveal(page: Page) -> None:
    question(page, 0).get_by_label("Three").check()
    question(page, 0).get_by_role("button", name="Check").press("Enter")
    told = live(page, 0)
    for text in ("✗ Not so: Three", "Too many.", "✓ Right: Two", "The reveal of the prediction."):
        expect(told).to_contain_text(text)
    expect(told).not_to_contain_text("Too few.")


def test_a_wrong_recall_may_be_tried_again(page: Page) -> None:
    check = question(page, 1).get_by_role("button", name="Check")
    question(page, 1).get_by_label("That").check()
    check.click()
    expect(live(page, 1)).to_contain_text("No, not that.")
    expect(live(page, 1)).not_to_contain_text("Yes, this.")
    expect(live(page, 1)).not_to_contain_text("The reveal")
    question(page, 1).get_by_label("This").check()
    check.click()
    expect(live(page, 1)).to_contain_text("✓ Right: This")
    expect(live(page, 1)).to_contain_text("The reveal of the recall.")
    expect(live(page, 1)).not_to_contain_text("No, not that.")


def test_a_guess_is_compared_with_the_answer(page: Page) -> None:
    bar = question(page, 2).get_by_role("slider", name="Your guess")
    bar.press("ArrowRight")
    expect(bar).to_have_attribute("aria-valuetext", "45 ms")
    question(page, 2).get_by_role("button", name="Check").click()
    expect(live(page, 2)).to_contain_text("You said 45 ms.")
    expect(live(page, 2)).to_contain_text("The answer: 20 ms")
    expect(live(page, 2)).to_contain_text("The reveal of the guess.")


def test_an_answer_survives_a_reload_and_others_stay_open(page: Page) -> None:
    question(page, 0).get_by_label("Two").check()
    question(page, 0).get_by_role("button", name="Check").click()
    page.reload()
    expect(question(page, 0).get_by_label("Two")).to_be_checked()
    expect(live(page, 0)).to_contain_text("As it should be.")
    expect(live(page, 1)).to_be_empty()
