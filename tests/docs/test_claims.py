"""Claims: whose number it is can be seen, and a verdict that does not hold fails the build."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from tiny import CARDS_INDEX, CLAIM, Site, notebook

CELL = """from pathlib import Path
from aiexplained import viz
from aiexplained.registry import Reading, read_concept
concept = read_concept(Path("../registry/{name}.py"))
reading = Reading({value}, {value} - 1, {value} + 1, "on three seeds", 3)
viz.claims_table(concept, {{"ttft": reading}})"""

UNTESTED = """Claim(
    id="scale", statement="It scales to a datacenter", reported="10×", where="section 5",
    source="doe2026", kind=Kind.NONE, verdict=Verdict.NOT_TESTABLE, why="We have one machine.",
),"""


def claims_site(folder: Path, claims: str = CLAIM + UNTESTED) -> Site:
    """A concept of these claims, its page and a ledger."""
    site = Site(folder)
    site.concept("tiny", "Tiny", claims=claims)
    site.page("claims", "# Claims\n\n```{claims-ledger}\n```\n")
    site.notebook("concepts/tiny", CELL.format(name="tiny", value=-10), title="Tiny")
    site.write("docs/index.md", CARDS_INDEX)
    return site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return claims_site(tmp_path)


def ledger(site: Site) -> BeautifulSoup:
    built = site.build()
    assert built.warnings == ""
    return BeautifulSoup(built.html("pages/claims"), "html.parser").find(class_="aix-ledger")


def test_the_ledger_has_a_row_a_claim_with_both_numbers_and_the_verdict(site: Site) -> None:
    found = ledger(site)
    assert "2 claims of 1 concept" in found.get_text()
    row = " ".join(found.find(id="claim-tiny-ttft").get_text(" ").split())
    for said in ("−20 % to −33 %", "Table 2", "−10.0 %", "−11.0 to −9.0", "direction reproduced"):
        assert said in row
    other = " ".join(found.find(id="claim-tiny-scale").get_text(" ").split())
    assert "not measured" in other
    assert "We have one machine." in other
    assert found.find("a", string="Tiny")["href"] == "../concepts/tiny.html"


def test_the_ledger_follows_the_pages(site: Site) -> None:
    ledger(site)
    site.notebook("concepts/tiny", CELL.format(name="tiny", value=-12), title="Tiny")
    assert "−12.0" in ledger(site).get_text()
    site.concept("more", "More", claims=CLAIM)
    site.notebook("concepts/more", CELL.format(name="more", value=-5), title="More")
    found = ledger(site)
    assert "3 claims of 2 concepts" in found.get_text()
    assert found.find(id="claim-more-ttft")
    (site.folder / "docs/registry/more.py").unlink()
    (site.folder / "docs/concepts/more.md").unlink()
    assert ledger(site).find(id="claim-more-ttft") is None


def test_the_ledger_is_whole_in_parallel_builds(site: Site) -> None:
    for number in range(5):
        site.concept(f"c{number}", f"C{number}", claims=CLAIM)
        cell = CELL.format(name=f"c{number}", value=-3 - number)
        site.notebook(f"concepts/c{number}", cell, title=f"C{number}")
    built = site.build(jobs=2)
    assert built.warnings == ""
    rows = re.findall(r'id="claim-(\w+)-ttft"', built.html("pages/claims"))
    assert sorted(rows) == ["c0", "c1", "c2", "c3", "c4", "tiny"]


def test_programs_get_the_same_as_json(site: Site) -> None:
    built = site.build()
    (table,) = json.loads((built.out / "claims.json").read_text(encoding="utf-8"))
    assert table["concept"] == "tiny"
    rows = {row["id"]: row for row in table["rows"]}
    assert rows["ttft"]["reading"]["value"] == -10
    assert rows["scale"]["reading"] is None


@pytest.mark.parametrize(
    ("value", "supported"), [(5, "not reproduced here"), (0, "not reproduced here")]
)
def test_a_verdict_that_the_number_does_not_support_fails_the_build(
    site: Site, value: float, supported: str
) -> None:
    site.notebook("concepts/tiny", CELL.format(name="tiny", value=value), title="Tiny")
    warnings = site.build().warnings
    assert "UnsupportedVerdict" in warnings
    assert f"supports '{supported}'" in warnings


def test_a_verdict_that_changes_after_the_execution_is_judged_again(site: Site) -> None:
    site.build()
    text = CLAIM.replace("Verdict.DIRECTION", "Verdict.REPRODUCED")
    site.concept("tiny", "Tiny", claims=text + UNTESTED)
    warnings = site.build().warnings
    assert re.search(r"claims\.md:3: WARNING: tiny: claim 'ttft' says 'reproduced'", warnings)


def test_a_claim_that_no_page_shows_is_a_warning(site: Site) -> None:
    site.write("docs/concepts/tiny.md", "# Tiny\n")
    warnings = site.build().warnings
    assert re.search(r"claims\.md:3: WARNING: no page shows our reading of tiny:ttft", warnings)
    assert "tiny:scale" not in warnings, "what cannot be tested needs no reading"


def test_the_source_s_number_is_marked_as_theirs_and_cited(site: Site) -> None:
    site.page("text", "# Text\n\nThey say {reported}`tiny:ttft`.\n")
    built = site.build()
    assert built.warnings == ""
    page = BeautifulSoup(built.html("pages/text"), "html.parser")
    number = page.find(class_="aix-reported")
    assert number.get_text() == "−20 % to −33 %"
    assert number["title"] == "Reported by Doe et al. 2026: Table 2. Not ours."
    link = page.find("a", class_="aix-cite")
    assert link["href"] == "https://example.org/paper"
    assert link.get_text() == "Doe et al. 2026"


def test_a_badge_has_symbol_and_words_and_leads_to_the_ledger(site: Site) -> None:
    site.page("text", "# Text\n\nWe say {verdict}`tiny:ttft`.\n")
    built = site.build()
    badge = BeautifulSoup(built.html("pages/text"), "html.parser").find(class_="aix-verdict")
    assert badge.get_text() == "↗ direction reproduced"
    assert "aix-verdict-direction-reproduced" in badge["class"]
    page, _, anchor = badge.find_parent("a")["href"].partition("#")
    assert page == "claims.html"
    assert f'id="{anchor}"' in built.html("pages/claims")


@pytest.mark.parametrize("role", ["reported", "verdict"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tiny:speed", "tiny has no claim 'speed'; it has ['ttft', 'scale']"),
        ("huge:ttft", "no concept 'huge' in the registry; it has tiny"),
        ("ttft", "a claim is written 'concept:claim-id', got 'ttft'"),
    ],
)
def test_an_unknown_claim_is_a_located_warning(
    site: Site, role: str, target: str, message: str
) -> None:
    site.page("text", f"# Text\n\nFirst.\n\nThey say {{{role}}}`{target}`.\n")
    assert f"text.md:5: WARNING: {message}" in site.build().warnings


def test_scripts_and_styles_of_claims_are_only_where_they_are_shown(site: Site) -> None:
    site.write("docs/pages/plain.md", "# Plain\n")
    site.write("docs/pages/n.md", notebook("print(1)", title="N"))
    built = site.build()
    assert "aix/explorables.css" in built.html("concepts/tiny")
    assert "aix/explorables.css" in built.html("pages/claims")
    assert "aix/explorables" not in built.html("pages/plain")
    assert "aix/explorables" not in built.html("pages/n")
