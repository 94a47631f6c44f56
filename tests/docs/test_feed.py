"""The feed of the concepts, and the full text that it carries."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from aixdocs.feed import ATOM
from aixdocs.fulltext import article, tex_of
from bs4 import BeautifulSoup, Tag
from tiny import Site

from aiexplained.viz.html import NO_PICTURE, Drawing, figure_html, picture_html

SITE = "https://example.org/aix"
INDEX = "# Home\n\n```{concept-cards}\n```\n\n```{toctree}\n:hidden:\n\nbasics\n```\n"
A = f"{{{ATOM}}}"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
DRAWING = Drawing(
    alt="Waits fall by a third.", digest="0123456789abcdef", item="{}", bokeh="3.9.2",
    parts=("bokeh",), rules=(), height=300, narrow_height=400, has_table=True,
)  # fmt: skip


def page(name: str, title: str, text: str) -> str:
    return f"# {title}\n\n```{{concept-card}} {name}\n```\n\n{text}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.write("docs/index.md", INDEX)
    site.write("docs/basics.md", "# Basics\n\nText.\n")
    site.concept("old_news", "OldNews", "2025-05-05")
    site.write("docs/concepts/old-news.md", page("old_news", "OldNews", "See {doc}`/basics`."))
    site.concept("new_idea", "NewIdea & co", "2026-06-06")
    site.write(
        "docs/concepts/new-idea.md",
        page("new_idea", "NewIdea & co", "So $a<b$. [^1]\n\n[^1]: Why."),
    )
    return site


def feed(out: Path) -> ET.Element:
    return ET.parse(out / "feed.xml").getroot()


def entries(root: ET.Element) -> dict[str, BeautifulSoup]:
    """HTML of each entry, in order, by the last part of its address."""
    return {
        entry.findtext(f"{A}id", "").rstrip("/").rsplit("/", 1)[-1]: BeautifulSoup(
            entry.findtext(f"{A}content", ""), "html.parser"
        )
        for entry in root.iter(f"{A}entry")
    }


def problems(root: ET.Element) -> list[str]:
    """What RFC 4287 demands of the feed and its entries and these lack."""
    found = [] if root.tag == f"{A}feed" else [f"the root element is {root.tag}"]
    for node in (root, *root.iter(f"{A}entry")):
        found += [
            f"{node.tag} needs exactly one {name}"
            for name in ("id", "title", "updated")
            if len(node.findall(f"{A}{name}")) != 1 or not node.findtext(f"{A}{name}")
        ]
        dates = [node.findtext(f"{A}{n}") for n in ("updated", "published")]
        found += [f"{date} is no date" for date in dates if date and not INSTANT.fullmatch(date)]
        if not node.findall(f"{A}link[@rel='alternate']"):
            found.append(f"{node.tag} has no alternate link")
    if not root.findtext(f"{A}author/{A}name"):
        found.append("the feed has no author")
    if len(root.findall(f"{A}link[@rel='self']")) != 1:
        found.append("the feed does not say where it is")
    ids = [node.text or "" for node in root.iter(f"{A}id")]
    found += [f"{i} is no address" for i in ids if not re.match(r"https://\w", i)]
    found += [f"{i} names two things" for i in set(ids) if ids.count(i) > 1]
    kinds = {node.get("type") for node in root.iter(f"{A}content")}
    return found + ([] if kinds <= {"html"} else [f"content of type {kinds}"])


@pytest.mark.parametrize("address", [SITE, SITE + "/"])
def test_the_feed_is_valid_and_lists_concepts_newest_first(site: Site, address: str) -> None:
    built = site.build(html_baseurl=address)
    assert built.warnings == ""
    root = feed(built.out)
    assert problems(root) == []
    assert [entry.findtext(f"{A}title") for entry in root.iter(f"{A}entry")] == [
        "NewIdea & co: NewIdea & co makes the news", "OldNews: OldNews makes the news",
    ]  # fmt: skip
    assert root.findtext(f"{A}updated") == "2026-06-06T00:00:00Z"
    assert root.find(f"{A}link[@rel='self']").get("href") == f"{SITE}/feed.xml"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"{A}updated", "needs exactly one updated"),
        (f"{A}author", "no author"),
        (f"{A}link[@rel='self']", "does not say where it is"),
        (f"{A}entry/{A}id", "entry needs exactly one id"),
    ],
)
def test_the_check_notices_what_is_missing(site: Site, path: str, said: str) -> None:
    root = feed(site.build(html_baseurl=SITE).out)
    parents = {child: parent for parent in root.iter() for child in parent}
    node = root.find(path)
    parents[node].remove(node)
    assert any(said in problem for problem in problems(root))


@pytest.mark.parametrize("builder", ["html", "dirhtml"])
def test_entries_carry_the_full_text_with_absolute_links(site: Site, builder: str) -> None:
    built = site.build(html_baseurl=SITE, builder=builder)
    assert built.warnings == ""
    texts = list(entries(feed(built.out)).values())
    basics = "basics/" if builder == "dirhtml" else "basics.html"
    assert texts[1].find("a", string="Basics")["href"] == f"{SITE}/{basics}"
    for text in texts:
        assert text.h1 is None, "the entry has a title already"
        assert all(link["href"].startswith("https://") for link in text.select("a"))
    assert [tex_of(formula) for formula in texts[0].select("math")] == ["a<b"]
    assert "Why." in texts[0].get_text()


def test_the_feed_does_not_change_with_the_day_of_the_build(site: Site) -> None:
    text = (site.build(html_baseurl=SITE).out / "feed.xml").read_text("utf-8")
    assert "min read" not in text
    assert "aix-headline" in text


def test_without_an_address_there_is_no_feed_and_no_link_to_one(site: Site) -> None:
    built = site.build(html_baseurl=SITE)
    assert (built.out / "feed.xml").exists()
    built = site.build()
    assert built.warnings == ""
    assert not (built.out / "feed.xml").exists()
    assert "atom+xml" not in built.html("index")


def test_a_site_without_concepts_has_no_feed(tmp_path: Path) -> None:
    built = Site(tmp_path).build(html_baseurl=SITE)
    assert not (built.out / "feed.xml").exists()
    assert "atom+xml" not in built.html("index")


@pytest.mark.parametrize("name", ["index", "concepts/old-news", "genindex"])
def test_every_page_says_where_the_feed_is(site: Site, name: str) -> None:
    built = site.build(html_baseurl=SITE)
    head = BeautifulSoup(built.html(name), "html.parser").head
    (link,) = head.select('link[rel=alternate][type="application/atom+xml"]')
    assert (built.out / name).parent.joinpath(link["href"]).resolve() == built.out / "feed.xml"


def test_a_rebuild_of_one_page_keeps_the_others_in_the_feed(site: Site) -> None:
    site.build(html_baseurl=SITE)
    site.write("docs/concepts/old-news.md", page("old_news", "OldNews", "Said anew."))
    built = site.build(html_baseurl=SITE)
    assert built.read == {"concepts/old-news"}
    texts = entries(feed(built.out))
    assert list(texts) == ["new-idea.html", "old-news.html"]
    assert "Said anew." in texts["old-news.html"].get_text()


def test_two_workers_write_the_same_feed_as_one(site: Site, tmp_path: Path) -> None:
    one = (site.build(html_baseurl=SITE).out / "feed.xml").read_bytes()
    for folder in ("html", "html-trees"):
        (tmp_path / "build" / folder).rename(tmp_path / f"first-{folder}")
    two = site.build(html_baseurl=SITE, jobs=2)
    assert two.warnings == ""
    assert (two.out / "feed.xml").read_bytes() == one


def test_what_xml_cannot_hold_is_left_out(site: Site) -> None:
    site.write("docs/concepts/old-news.md", page("old_news", "OldNews", "`red \x1b[31m`"))
    built = site.build(html_baseurl=SITE)
    assert built.warnings == ""
    assert "red [31m" in entries(feed(built.out))["old-news.html"].get_text()


def built_page(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(f"<html><body><nav>Menu</nav><article>{body}</article></body></html>", "utf-8")
    return path


def test_a_figure_becomes_its_still_picture_and_its_caption(tmp_path: Path) -> None:
    picture = picture_html(DRAWING.alt, "../_static/aix-pictures/0123456789abcdef.png")
    html = figure_html(DRAWING).replace(NO_PICTURE, picture)
    text = article(built_page(tmp_path, html), base=f"{SITE}/concepts/x.html")
    assert [child.name for child in text.figure.children] == ["img", "figcaption"]
    assert text.img["src"] == f"{SITE}/_static/aix-pictures/0123456789abcdef.png"
    assert text.get_text() == DRAWING.alt


def test_a_figure_without_a_picture_is_its_caption(tmp_path: Path) -> None:
    text = article(built_page(tmp_path, figure_html(DRAWING)))
    assert [child.name for child in text.figure.children] == ["figcaption"]
    assert text.get_text() == DRAWING.alt


def test_links_stay_relative_without_an_address(tmp_path: Path) -> None:
    text = article(built_page(tmp_path, '<a href="../b.html#c">b</a><a href="#d">d</a>'))
    assert [link["href"] for link in text.select("a")] == ["../b.html#c", "#d"]


def test_what_works_only_on_the_site_is_left_out(site: Site) -> None:
    question = ":::{predict}\nWhich?\n\n- ( ) One :: No.\n- (x) Two :: Yes.\n\nThat is why.\n:::\n"
    code = "```python\nx = 1  # one\n```\n"
    site.write("docs/concepts/old-news.md", page("old_news", "OldNews", f"{question}\n{code}"))
    out = site.build().out
    text: Tag = article(out / "concepts" / "old-news.html")
    assert not text.select("script, noscript, input, aix-question, .headerlink, .aix-live")
    assert [choice.get_text(strip=True) for choice in text.select("ul > li")] == ["One", "Two"]
    for said in ("Which?", "Show the answer", "That is why."):
        assert said in text.get_text()
    assert text.pre.decode_contents().rstrip() == "x = 1  # one"


def test_a_page_without_an_article_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html><body>Hello</body></html>", "utf-8")
    with pytest.raises(ValueError, match=r"page\.html has neither"):
        article(page)


def test_text_without_tex_is_an_error() -> None:
    with pytest.raises(ValueError, match="no TeX in '<p>x</p>'"):
        tex_of(BeautifulSoup("<p>x</p>", "html.parser").p)
