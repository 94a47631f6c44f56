"""Old addresses of pages that moved."""

from __future__ import annotations

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from tiny import Site, notebook

SITE = "https://example.org/aix"


def moved(*names: str, text: str = "Text.") -> str:
    return f"---\nmoved_from: [{', '.join(names)}]\n---\n# New & better\n\n{text}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.page("new", moved("old/name", "older"))
    site.page("other", "# Other\n")
    return site


@pytest.mark.parametrize(
    ("name", "target"), [("old/name", "../pages/new.html"), ("older", "pages/new.html")]
)
def test_an_old_address_leads_to_the_new_page(site: Site, name: str, target: str) -> None:
    built = site.build()
    assert built.warnings == ""
    page = BeautifulSoup(built.html(name), "html.parser")
    assert page.select_one("meta[http-equiv=refresh]")["content"] == f"0; url={target}"
    assert (page.a["href"], page.a.string) == (target, "New & better")
    assert (built.out / name).parent.joinpath(target).resolve() == built.out / "pages" / "new.html"
    assert page.find("script") is None
    assert page.find("link", rel="canonical") is None, "the site has no address"


def test_the_new_address_is_the_canonical_one(site: Site) -> None:
    page = BeautifulSoup(site.build(html_baseurl=SITE).html("older"), "html.parser")
    assert page.find("link", rel="canonical")["href"] == f"{SITE}/pages/new.html"


def test_an_old_address_works_where_pages_are_folders(site: Site) -> None:
    built = site.build(builder="dirhtml")
    page = BeautifulSoup(built.html("old/name/index"), "html.parser")
    target = built.out / "old" / "name" / page.a["href"]
    assert target.resolve() == built.out / "pages" / "new"


def test_a_notebook_can_move(site: Site) -> None:
    text = notebook("1 + 1").replace("kernelspec", "moved_from: [former]\nkernelspec")
    site.write("docs/pages/notebook.md", text)
    built = site.build()
    assert built.warnings == ""
    assert "pages/notebook.html" in built.html("former")


def test_old_addresses_are_not_searched(site: Site) -> None:
    index = (site.build().out / "searchindex.js").read_text("utf-8")
    assert "pages/new" in index
    assert "older" not in index


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pages/other", "'pages/other' is a page of the site"),
        ("search", "'search' is a page of the site"),
        ("older", "'older' leads to 'pages/new' already"),
        ("../up", "without suffix, got '../up'"),
        ("/top", "without suffix, got '/top'"),
        ("a.html", "without suffix, got 'a.html'"),
        ("3", "without suffix, got 3"),
    ],
)
def test_a_wrong_old_name_is_a_warning_at_its_page(site: Site, name: str, said: str) -> None:
    site.page("wrong", moved(name))
    built = site.build()
    assert "pages/wrong.md: WARNING: moved_from: " in built.warnings
    assert said in built.warnings
    assert "refresh" not in built.html("pages/other"), "no page is overwritten"
    assert said in site.build().warnings, "a rebuild without a change says it again"


def test_a_single_name_needs_no_list(site: Site) -> None:
    site.page("wrong", "---\nmoved_from: former\n---\n# Page\n")
    built = site.build()
    assert built.warnings == ""
    assert "pages/wrong.html" in built.html("former")


def test_old_addresses_stand_after_a_rebuild_of_another_page(site: Site) -> None:
    site.build()
    site.page("other", "# Other\n\nMore.\n")
    built = site.build(jobs=2)
    assert (built.warnings, built.read) == ("", {"pages/other"})
    assert "pages/new.html" in built.html("older")


def test_an_old_address_given_up_is_gone(site: Site) -> None:
    site.build()
    site.page("new", moved("old/name"))
    built = site.build()
    assert not (built.out / "older.html").exists()
    assert (built.out / "old" / "name.html").exists()


def test_a_page_that_takes_an_old_address_stays(site: Site) -> None:
    site.build()
    site.page("new", moved("old/name"))
    site.write("docs/older.md", "---\norphan: true\n---\n# Reborn\n")
    built = site.build()
    assert built.warnings == ""
    assert "Reborn" in built.html("older")


def test_two_workers_write_the_same(site: Site) -> None:
    built = site.build(jobs=2)
    assert built.warnings == ""
    assert "pages/new.html" in built.html("old/name")
