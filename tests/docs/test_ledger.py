"""The ledger: the whole at a glance, filters, files for programs, links for reporting errors."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Page, expect
from test_claims import CELL, UNTESTED, claims_site
from tiny import CLAIM, Built, Site

from aiexplained.registry import concepts


@pytest.fixture
def tiny(tmp_path: Path) -> Site:
    site = claims_site(tmp_path, claims=UNTESTED + CLAIM)
    site.page("guide", "# Guide\n\n## Report it\n")
    return site


def built(site: Site, **settings: str) -> Built:
    done = site.build(**settings)
    assert done.warnings == ""
    return done


def ledger(done: Built) -> BeautifulSoup:
    return BeautifulSoup(done.html("pages/claims"), "html.parser").find(class_="aix-ledger")


def test_the_overview_has_a_square_a_claim_that_leads_to_its_row(tiny: Site) -> None:
    found = ledger(built(tiny))
    squares = found.select(".aix-overview a.aix-square")
    assert [s.get_text(" ", strip=True) for s in squares] == [
        "↗ Time to first token falls: direction reproduced",
        "○ It scales to a datacenter: not testable here",
    ], "sorted by verdict, with the words for those who see no color"
    for square in squares:
        assert found.find(id=square["href"].removeprefix("#")).name == "tr"


def test_the_sheet_holds_what_the_json_holds(tiny: Site) -> None:
    done = built(tiny)
    (table,) = json.loads((done.out / "claims.json").read_text(encoding="utf-8"))
    with (done.out / "claims.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert set(rows) == {row["id"] for row in table["rows"]} == {"ttft", "scale"}
    assert rows["ttft"] | {"why": ""} == {
        "concept": "tiny", "id": "ttft", "statement": "Time to first token falls",
        "reported": "−20 % to −33 %", "where": "Table 2", "source": "https://example.org/paper",
        "unit": "%", "kind": "measured", "verdict": "direction reproduced", "value": "-10",
        "low": "-11", "high": "-9", "n": "3", "how": "on three seeds", "why": "", "rerun": "run it",
    }  # fmt: skip
    assert rows["scale"]["value"] == ""
    links = ledger(done).select(".aix-downloads a")
    assert [link["href"] for link in links] == ["../claims.json", "../claims.csv"]


def report_links(done: Built, page: str) -> list[str]:
    soup = BeautifulSoup(done.html(page), "html.parser")
    return [link["href"] for link in soup.find_all("a", class_="aix-report")]


def test_an_error_is_reported_as_an_issue_that_names_the_claim(tiny: Site) -> None:
    done = built(tiny, aix_repository="https://example.org/us/it")
    for page in ("pages/claims", "concepts/tiny"):
        _, link = report_links(done, page)
        address = urlsplit(link)
        assert address.path == "/us/it/issues/new"
        asked = parse_qs(address.query)
        assert asked["title"] == ["Claim tiny:ttft"]
        assert "They report: −20 % to −33 % (Table 2)" in asked["body"][0]
        assert "−10.0" in asked["body"][0]


def test_gitlab_has_an_address_of_its_own(tiny: Site) -> None:
    done = built(tiny, aix_repository="https://gitlab.example.org/us/it")
    address = urlsplit(report_links(done, "pages/claims")[0])
    assert address.path == "/us/it/-/issues/new"
    assert parse_qs(address.query)["issue[title]"] == ["Claim tiny:scale"]


def test_without_a_repository_the_guide_says_how(tiny: Site) -> None:
    done = built(tiny, aix_corrections="pages/guide#report-it")
    assert report_links(done, "pages/claims") == ["guide.html#report-it"] * 2
    assert report_links(done, "concepts/tiny") == ["../pages/guide.html#report-it"] * 2


def test_without_both_there_is_no_dead_link(tiny: Site) -> None:
    assert report_links(built(tiny, aix_corrections="pages/absent#x"), "pages/claims") == []


def test_the_search_index_knows_the_claims(tiny: Site) -> None:
    index = (built(tiny).out / "searchindex.js").read_text(encoding="utf-8")
    assert "Tiny: Time to first token falls" in index
    assert "claim-tiny-ttft" in index


def test_a_link_by_a_label_alone_is_no_matter_of_claims(tiny: Site) -> None:
    tiny.page("guide", "# Guide\n\n(here)=\n## Report it\n\nSee [this](here).\n")
    assert 'href="#here"' in built(tiny).html("pages/guide")


def test_the_ledger_is_whole_in_parallel_builds_too(tiny: Site) -> None:
    for number in range(4):
        tiny.concept(f"c{number}", f"C{number}", claims=CLAIM)
        cell = CELL.format(name=f"c{number}", value=-3 - number)
        tiny.notebook(f"concepts/c{number}", cell, title=f"C{number}")
    done = tiny.build(jobs=2)
    assert done.warnings == ""
    assert len(ledger(done).select(".aix-overview a.aix-square")) == 6
    index = (done.out / "searchindex.js").read_text(encoding="utf-8")
    assert all(f"C{number}: Time to first token falls" in index for number in range(4))


def test_terms_are_found_once_and_also_after_a_build_of_other_pages(tiny: Site) -> None:
    tiny.page("words", "# Words\n\n```{glossary}\nprefill\n  Reading the prompt.\n```\n")
    for edit in ("First.", "Second."):
        tiny.page("guide", f"# Guide\n\n## Report it\n\n{edit}\n")
        done = built(tiny)
        index = (done.out / "searchindex.js").read_text(encoding="utf-8")
        data = json.loads(index[index.index("(") + 1 : index.rindex(")")])
        terms = [entry for entry in data["objects"][""] if entry[-1] == "prefill"]
        assert len(terms) == 1
        assert "prefill" not in data["indexentries"]
    assert "prefill" in done.html("genindex")


@pytest.mark.browser
def test_a_filter_hides_rows_and_fades_squares_and_can_be_shared(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("claims")
    rows = page.locator(".aix-ledger tr[data-verdict]")
    total = sum(len(concept.claims) for concept in concepts())
    assert rows.count() == total
    verdict = rows.first.get_attribute("data-verdict")
    same = page.locator(f'.aix-ledger tr[data-verdict="{verdict}"]').count()
    kind = page.get_by_role("combobox", name="How we know")
    measured = page.locator('.aix-ledger tr[data-kind="measured"]').count()
    kind.select_option("measured")
    expect(page.locator(".aix-filter output")).to_have_text(f"{measured} of {total} claims")
    kind.select_option("")
    page.get_by_role("combobox", name="Verdict").select_option(verdict)
    expect(page.locator(".aix-filter output")).to_have_text(f"{same} of {total} claims")
    assert page.locator(".aix-ledger tr[data-verdict]:not([hidden])").count() == same
    assert page.locator(".aix-square.aix-faded").count() == total - same
    again = page.context.new_page()
    again.goto(page.url)
    expect(again.get_by_role("combobox", name="Verdict")).to_have_value(verdict)
    again.get_by_label("Words").fill("no claim says this")
    expect(again.locator(".aix-filter output")).to_have_text(f"0 of {total} claims")
    again.locator(".aix-square").first.click()
    expect(again.locator(".aix-ledger tr:target")).to_be_visible()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("words", "leads_to"),
    [
        ("prefill", "glossary.html#term-prefill"),
        ("cacheweaver.weave", "api/concepts.html#"),
        ("prefix caching retrieval order", "concepts/cacheweaver.html#claim-cacheweaver-"),
    ],
)
def test_the_search_finds_terms_symbols_and_claims(
    open_page: Callable[..., Page], words: str, leads_to: str
) -> None:
    page = open_page("search", query=f"?q={words.replace(' ', '+')}")
    expect(page.locator(f'#search-results a[href*="{leads_to}"]').first).to_be_visible()
