"""The map of the site, for search engines."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from aixdocs.sitemap import NAMESPACE
from tiny import Built, Site

SITE = "https://example.org/aix"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.page("a", "---\nmoved_from: [old/a]\n---\n# A\n")
    site.page("b", "# B\n")
    return site


def listed(built: Built) -> list[str]:
    root = ET.parse(built.out / "sitemap.xml").getroot()
    assert root.tag == f"{{{NAMESPACE}}}urlset"
    return [node.text or "" for node in root.iterfind(f"{{{NAMESPACE}}}url/{{{NAMESPACE}}}loc")]


@pytest.mark.parametrize("address", [SITE, SITE + "/"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_map_lists_pages_and_neither_search_nor_old_addresses(
    site: Site, address: str, jobs: int
) -> None:
    built = site.build(html_baseurl=address, jobs=jobs)
    assert built.warnings == ""
    assert listed(built) == [f"{SITE}/{p}.html" for p in ("index", "pages/a", "pages/b")]


def test_a_rebuild_of_one_page_keeps_the_others(site: Site) -> None:
    before = listed(site.build(html_baseurl=SITE))
    site.page("b", "# B\n\nChanged.\n")
    built = site.build(html_baseurl=SITE)
    assert built.read == {"pages/b"}
    assert listed(built) == before


def test_addresses_are_folders_where_pages_are(site: Site) -> None:
    built = site.build(html_baseurl=SITE, builder="dirhtml")
    assert listed(built)[1] == f"{SITE}/pages/a/"


def test_without_an_address_there_is_no_map(site: Site) -> None:
    assert (site.build(html_baseurl=SITE).out / "sitemap.xml").exists()
    built = site.build()
    assert built.warnings == ""
    assert not (built.out / "sitemap.xml").exists()
