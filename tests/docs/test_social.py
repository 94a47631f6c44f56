"""What a link to a page shows elsewhere: title, description and card."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from aixdocs import socialcards
from aixdocs.social import LONGEST, shortened
from aixdocs.socialcards import LIST, Card, read_list
from bs4 import BeautifulSoup
from playwright.sync_api import Browser
from tiny import CLAIM, REPOSITORY, Built, Site

SITE = "https://example.org/aix"
INDEX = "# Home\n\nAll of it.\n\n```{concept-cards}\n```\n\n```{toctree}\n:glob:\n\npages/*\n```\n"
CONCEPT_PAGE = "# OldNews\n\n```{concept-card} old_news\n```\n\nFirst words.\n"
CARD = Card(
    site="AI Explained", tag="Serving", title="CacheWeaver", note="9 claims judged",
    headline="Reorder what you retrieved, and the first word comes sooner", figures=(),
    tally=(("aix-verdict-reproduced", "✓ 1 reproduced"),),
)  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.write("docs/index.md", INDEX)
    site.concept("old_news", "OldNews", "2025-05-05", claims=CLAIM)
    site.write("docs/concepts/old-news.md", CONCEPT_PAGE)
    site.page("basics", "# Basics & more\n\nFirst.\n")
    return site


def tags(built: Built, name: str) -> dict[str, str]:
    """The page's meta tags by name or property."""
    head = BeautifulSoup(built.html(name), "html.parser").head
    found = [(tag.get("property") or tag.get("name"), tag.get("content")) for tag in head("meta")]
    named = {key: value for key, value in found if key and key != "viewport"}
    assert len(named) == sum(1 for key, _ in found if key and key != "viewport"), "none twice"
    return named


def cards(built: Built) -> dict[str, Card]:
    """The cards that the build wants, by title."""
    return {card.title: card for card in read_list(built.out / LIST)}


def draw(site: Site, card: Card) -> None:
    """As far as the pages can tell, the card is drawn."""
    site.write(f"docs/_social/{card.name}.png", f"picture of {card.headline}")


def test_a_concept_page_is_described_by_the_registry(site: Site) -> None:
    built = site.build(html_baseurl=SITE, project="Tiny")
    assert built.warnings == ""
    assert tags(built, "concepts/old-news") == {
        "description": "One plain sentence.",
        "og:title": "OldNews: OldNews makes the news",
        "og:type": "article",
        "og:site_name": "Tiny",
        "og:description": "One plain sentence.",
        "og:url": f"{SITE}/concepts/old-news.html",
        "article:published_time": "2025-05-05T00:00:00Z",
        "article:section": "Serving",
        "twitter:card": "summary",
    }


def test_another_page_is_described_by_its_first_paragraph(site: Site) -> None:
    site.page(
        "basics",
        '# Basics & more\n\n```{note}\nAside.\n```\n\nIf $x$ is so.\n\nA **"bold" {doc}`/index`**, '
        "`f(x)`\nand more [^1].\n\n[^1]: Why.\n",
    )
    built = site.build()
    assert built.warnings == ""
    found = tags(built, "pages/basics")
    assert found["description"] == "A “bold” Home, f(x) and more ."
    assert found["og:description"] == found["description"]
    assert found["og:title"] == "Basics & more"


def test_the_start_page_has_the_name_of_the_site(site: Site) -> None:
    found = tags(site.build(project="Tiny"), "index")
    assert (found["og:title"], found["description"]) == ("Tiny", "All of it.")


def test_a_page_can_describe_itself(site: Site) -> None:
    front = "---\nmyst:\n  html_meta:\n    description: Said & done\n---\n"
    site.page("basics", front + "# Basics\n\nFirst.\n")
    found = tags(site.build(), "pages/basics")
    assert found["description"] == found["og:description"] == "Said & done"


def test_a_page_without_a_paragraph_has_no_description(site: Site) -> None:
    site.page("basics", "# Basics\n\n- One.\n")
    found = tags(site.build(), "pages/basics")
    assert "description" not in found
    assert "og:description" not in found


def test_without_an_address_nothing_needs_one(site: Site) -> None:
    draw(site, cards(site.build(html_baseurl=SITE))[""])
    built = site.build()
    assert built.warnings == ""
    found = tags(built, "pages/basics")
    assert found["og:title"] == "Basics & more"
    assert found["twitter:card"] == "summary"
    assert not {"og:url", "og:image"} & set(found)
    assert not (built.out / LIST).parent.exists()


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Short.", "Short."),
        ("One. " + "word " * 50 + ".", "One."),
        ("word " * 50 + "end.", "word " * 39 + "word …"),
        ("Two kinds. They are:", "Two kinds."),
        ("They are:", "They are …"),
        ("x" * LONGEST, "x" * LONGEST),
    ],
)
def test_a_description_ends_with_a_sentence_or_a_word(text: str, short: str) -> None:
    assert shortened(text) == short
    assert len(short) <= LONGEST + 2


def test_the_list_names_the_card_of_each_concept_and_that_of_the_site(site: Site) -> None:
    built = site.build(html_baseurl=SITE, project="Tiny", aix_tagline="In plain words")
    verdicts = (("aix-verdict-direction-reproduced", "↗ 1 direction reproduced"),)
    assert cards(built) == {
        "OldNews": Card(
            "Tiny", "Serving", "OldNews", "OldNews makes the news", "1 claim judged", verdicts, ()
        ),
        "": Card("Tiny", "", "", "In plain words", "1 concept, 1 claim judged", verdicts, ()),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"headline": "Other"},
        {"tag": "Other"},
        {"note": "Other"},
        {"tally": ()},
        {"figures": ("0",)},
    ],
)
def test_a_card_that_shows_something_else_has_another_name(change: dict[str, object]) -> None:
    assert replace(CARD, **change).name != CARD.name
    assert replace(CARD).name == CARD.name


def test_another_design_makes_other_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    before = CARD.name
    monkeypatch.setattr(socialcards, "design", lambda: "another")
    assert CARD.name != before


def test_a_page_shows_its_card_once_it_is_drawn(site: Site) -> None:
    card = cards(site.build(html_baseurl=SITE))["OldNews"]
    draw(site, card)
    built = site.build(html_baseurl=SITE)
    assert (built.warnings, built.read) == ("", set())
    found = tags(built, "concepts/old-news")
    assert found["og:image"] == f"{SITE}/_static/aix-social/{card.name}.png"
    assert (found["og:image:width"], found["og:image:height"]) == ("1200", "630")
    assert found["og:image:alt"] == "OldNews. OldNews makes the news. 1 claim judged"
    assert found["twitter:card"] == "summary_large_image"
    assert (built.out / LIST).with_name(f"{card.name}.png").read_text() == (
        "picture of OldNews makes the news"
    )
    assert "og:image" not in tags(built, "pages/basics"), "the site's card is not drawn"


def test_other_pages_show_the_card_of_the_site(site: Site) -> None:
    card = cards(site.build(html_baseurl=SITE))[""]
    draw(site, card)
    built = site.build(html_baseurl=SITE, jobs=2)
    assert built.warnings == ""
    for name in ("index", "pages/basics", "concepts/old-news"):
        assert tags(built, name)["og:image"].endswith(f"/{card.name}.png")


def test_only_pages_that_show_another_card_are_written_again(site: Site) -> None:
    for card in cards(site.build(html_baseurl=SITE)).values():
        draw(site, card)
    built = site.build(html_baseurl=SITE)
    before = (built.out / "pages" / "basics.html").stat().st_mtime_ns
    path = site.folder / "docs" / "registry" / "old_news.py"
    path.write_text(path.read_text().replace("makes the news", "is old"))
    built = site.build(html_baseurl=SITE)
    assert (built.out / "pages" / "basics.html").stat().st_mtime_ns == before
    site_card = tags(built, "index")["og:image"]
    assert tags(built, "concepts/old-news")["og:image"] == site_card, "its own is not drawn yet"
    assert len(list((built.out / LIST).parent.glob("*.png"))) == 1, "the old card is gone"


def listed(folder: Path, *wanted: Card) -> Path:
    socialcards.write_list(folder / "html" / LIST, wanted)
    return folder / "html"


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    other = replace(CARD, figures=("0", "1"))
    assert read_list(listed(tmp_path, CARD, other) / LIST) == [CARD, other]


def test_a_site_without_an_address_has_no_cards_to_draw(tmp_path: Path) -> None:
    said = socialcards.draw_cards(tmp_path, tmp_path / "cards", tmp_path / "pictures")
    assert said == "no cards drawn: the site was built without an address"


def test_without_a_browser_it_says_so_and_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    site = listed(tmp_path, CARD)
    assert socialcards.main([str(site), str(tmp_path / "cards"), str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("no browser on the PATH (chromium, ")
    assert "1 of 1 social cards are missing" in said


def test_a_card_waits_for_the_picture_of_its_figure(tmp_path: Path) -> None:
    site = listed(tmp_path, replace(CARD, figures=("0123456789abcdef",)))
    said = socialcards.draw_cards(site, tmp_path / "cards", tmp_path / "pictures")
    assert said.endswith("0 removed, 1 wait for the picture of a figure")


@pytest.mark.browser
def test_cards_are_drawn_once_and_stale_ones_removed(
    tmp_path: Path, browser_type_launch_args: dict[str, object]
) -> None:
    site, folder = listed(tmp_path, CARD), tmp_path / "cards"
    folder.mkdir()
    (folder / "0123456789abcdef.png").write_bytes(b"stale")
    command = [sys.executable, "-m", "aixdocs.socialcards", site, folder, tmp_path / "pictures"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "docs" / "_ext")}
    said = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said == [
        "1 social cards drawn, 0 kept, 1 removed\n", "0 social cards drawn, 1 kept, 0 removed\n",
    ]  # fmt: skip
    (drawn,) = folder.iterdir()
    assert drawn.stem == CARD.name
    assert struct.unpack(">II", drawn.read_bytes()[16:24]) == (1200, 630)


FULL = tuple(
    (f"aix-verdict-{words.replace(' ', '-')}", f"✓ 99 {words}")
    for words in (
        "reproduced", "direction reproduced", "arithmetic checks out", "not reproduced here",
        "not testable here",
    )
)  # fmt: skip


def overflows(browser: Browser, card: Card, pictures: Path) -> list[str]:
    """Parts of the card that stand outside it or over one another."""
    page = browser.new_page(viewport={"width": socialcards.WIDTH, "height": socialcards.HEIGHT})
    page.set_content(socialcards.card_html(card, pictures))
    boxes = {}
    for part in ("header", "main", "footer", ".pictures"):
        if page.locator(part).count():
            boxes[part] = page.locator(part).bounding_box()
    found = [
        part for part, box in boxes.items()
        if box["x"] < 0 or box["y"] < 0 or box["x"] + box["width"] > 1200
        or box["y"] + box["height"] > 620
    ]  # fmt: skip
    page.close()
    for above, below in (("header", "main"), ("main", "footer")):
        if boxes[above]["y"] + boxes[above]["height"] > boxes[below]["y"] + 0.5:
            found.append(f"{above} over {below}")
    return found


@pytest.mark.browser
@pytest.mark.parametrize("figures", [(), ("1",), ("1", "1", "1", "1")])
@pytest.mark.parametrize("length", [20, 60, 90, 120])
def test_everything_fits_on_a_card(
    browser: Browser, tmp_path: Path, figures: tuple[str, ...], length: int
) -> None:
    (tmp_path / "1.png").write_bytes(
        (REPOSITORY / "docs" / "_static" / "screenshot.png").read_bytes()
    )
    headline = ("Reorder what you retrieved, and the first word comes sooner " * 3)[:length]
    card = replace(
        CARD, headline=headline, figures=figures, tally=FULL, note="12 concepts, 99 claims judged"
    )
    assert overflows(browser, card, tmp_path) == []


@pytest.mark.browser
def test_a_headline_that_is_far_too_long_is_noticed(browser: Browser, tmp_path: Path) -> None:
    assert overflows(browser, replace(CARD, headline="A much longer story. " * 40), tmp_path)
