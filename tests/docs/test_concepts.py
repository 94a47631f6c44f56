"""Cards, page heads and the table of contents come from the registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from tiny import CLAIM, Site

INDEX = "# Home\n\n```{concept-cards}\n```\n\n```{toctree}\n:glob:\n:hidden:\n\nbasics/*\n```\n"


def page(name: str, title: str, text: str = "") -> str:
    return f"# {title}\n\n```{{concept-card}} {name}\n```\n\n{text}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.write("docs/index.md", INDEX)
    site.write("docs/basics/caching.md", "# Caching\n\n```{glossary}\nblock\n  A piece.\n```\n")
    site.concept("old_news", "OldNews", "2025-05-05", claims=CLAIM)
    site.write("docs/concepts/old-news.md", page("old_news", "OldNews"))
    return site


def cards(html: str) -> list[BeautifulSoup]:
    return BeautifulSoup(html, "html.parser").select("ul.aix-cards > li.aix-card")


def test_a_card_says_what_the_registry_says_and_links_to_the_page(site: Site) -> None:
    built = site.build()
    assert built.warnings == ""
    (card,) = cards(built.html("index"))
    text = card.get_text(" ")
    for said in ("Serving", "OldNews", "makes the news", "One plain sentence.", "2025-05-05"):
        assert said in text
    assert "1 direction reproduced" in text
    assert card.a["href"] == "concepts/old-news.html"


def test_a_new_concept_needs_no_edit_of_the_index(site: Site) -> None:
    site.build()
    site.concept("new_idea", "NewIdea", "2026-06-06")
    site.write("docs/concepts/new-idea.md", page("new_idea", "NewIdea"))
    built = site.build()
    assert built.warnings == ""
    links = [card.a["href"] for card in cards(built.html("index"))]
    assert links == ["concepts/new-idea.html", "concepts/old-news.html"], "newest first"


def test_a_concept_without_a_page_and_a_page_without_a_concept_are_warnings(site: Site) -> None:
    site.concept("no_page", "NoPage")
    site.write("docs/concepts/stray.md", "# Stray\n")
    warnings = site.build().warnings
    assert "nonexisting document 'concepts/no-page'" in warnings
    assert re.search(r"stray\.md: WARNING: document isn't included in any toctree", warnings)


def test_pages_are_read_again_when_their_concept_says_something_else(site: Site) -> None:
    site.build()
    file = site.concept("old_news", "OldNews", "2025-05-05", claims=CLAIM)
    file.write_text(file.read_text(encoding="utf-8") + "\n# a remark\n", encoding="utf-8")
    assert site.build().read == set()
    file.write_text(file.read_text(encoding="utf-8").replace("plain", "short"), encoding="utf-8")
    built = site.build()
    assert built.read == {"index", "concepts/old-news"}
    assert "One short sentence." in built.html("index")


def test_a_registry_that_cannot_be_read_stops_the_build(site: Site) -> None:
    site.concept("wrong", "Wrong", "yesterday")
    with pytest.raises(Exception, match=r"registry cannot be read.*yesterday"):
        site.build()


def test_a_page_head_has_source_reading_time_and_prerequisites(site: Site) -> None:
    site.concept("old_news", "OldNews", prerequisites='"basics/caching", "block"')
    words = "word " * 700 + "\n\n```python\n" + "code = 1\n" * 900 + "```\n"
    site.write("docs/concepts/old-news.md", page("old_news", "OldNews", words))
    built = site.build()
    assert built.warnings == ""
    head = BeautifulSoup(built.html("concepts/old-news"), "html.parser").find(class_="aix-head")
    text = head.get_text(" ")
    assert "OldNews makes the news" in text
    assert "Jane Doe, John Roe, 2026" in text
    assert "4 min read" in text, "700 words and a few, at 220 a minute; code is not read"
    assert "last verified" not in text, "nothing was executed"
    links = [link["href"] for link in head.find_all("a")]
    expected = ["https://example.org/paper", "../basics/caching.html"]
    assert links == [*expected, "../basics/caching.html#term-block"]


def test_last_verified_is_the_date_of_the_execution_and_stays(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    card = "```{concept-card} old_news\n```\n"
    site.notebook("concepts/old-news", "print(1)", title="OldNews", text=card)
    assert "last verified" in site.build().html("concepts/old-news")
    assert "2023-11-14" in site.build().html("concepts/old-news")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    site.notebook("concepts/old-news", "print(1)", title="OldNews", text=card + "\nNew prose.\n")
    assert "2023-11-14" in site.build().html("concepts/old-news")
    site.notebook("concepts/old-news", "print(2)", title="OldNews", text=card)
    assert "2027-01-15" in site.build().html("concepts/old-news")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (page("old_news", "Old news"), "the first heading must be 'OldNews' as in CONCEPT"),
        (page("unheard", "OldNews"), "no concept 'unheard' in the registry; it has old_news"),
    ],
)
def test_a_head_that_does_not_fit_is_a_located_warning(site: Site, text: str, message: str) -> None:
    site.write("docs/concepts/old-news.md", text)
    warnings = site.build().warnings
    assert re.search(rf"old-news\.md:\d+: WARNING: {re.escape(message)}", warnings), warnings


def test_unknown_prerequisites_are_warnings(site: Site) -> None:
    site.concept("old_news", "OldNews", prerequisites='"basics/nowhere", "no such term"')
    warnings = site.build().warnings
    assert "basics/nowhere" in warnings
    assert "no such term" in warnings


def test_a_card_shows_the_picture_of_the_page_s_first_figure(site: Site) -> None:
    cell = (
        "from aiexplained import viz\nplot = viz.figure('Up')\nplot.line([1, 2], [1, 2])\n"
        "viz.show(plot, alt='A line that rises.')"
    )
    site.notebook(
        "concepts/old-news", cell, title="OldNews", text="```{concept-card} old_news\n```\n"
    )
    built = site.build()
    assert built.warnings == ""
    assert cards(built.html("index"))[0].find("img") is None
    name = re.search(r'data-hash="(\w+)"', built.html("concepts/old-news"))[1]
    site.write(f"docs/_pictures/{name}.png", "not really a picture")
    (card,) = cards(site.build().html("index"))
    assert card.img["src"] == f"_static/aix-pictures/{name}.png"
    assert card.img["alt"] == "", "the card's text says it all"
    assert (built.out / card.img["src"]).is_file()
