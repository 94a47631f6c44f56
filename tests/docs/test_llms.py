"""``llms.txt``, for programs that read the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import Site

SITE = "https://example.org/aix"
INDEX = """# Home

What is it, and is it true?

```{concept-cards}
```

```{toctree}
:hidden:
:caption: Reference

glossary
api/index
```
"""
ITEM = re.compile(r"- \[(?:[^\[\]\\]|\\.)+\]\(https://[^\s()]+\)(: \S.*)?")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.write("docs/index.md", INDEX)
    site.concept("old_news", "OldNews", "2025-05-05")
    text = "# OldNews\n\n```{concept-card} old_news\n```\n\nFirst words.\n"
    site.write("docs/concepts/old-news.md", text)
    site.write("docs/glossary.md", "# Words & [more]\n\n- A list.\n")
    site.write("docs/api/index.md", "# Use it\n\nCall `f`.\n\n```{toctree}\n\nnn\n```\n")
    site.write("docs/api/nn.md", '# Tensors\n\nThe "oracle" of all.\n')
    return site


EXPECTED = f"""# Tiny

> What is it, and is it true?

## Concepts

- [OldNews]({SITE}/concepts/old-news.html): One plain sentence.

## Reference

- [Words & \\[more\\]]({SITE}/glossary.html)
- [Use it]({SITE}/api/index.html): Call f.
- [Tensors]({SITE}/api/nn.html): The “oracle” of all.
"""


def problems(text: str) -> list[str]:
    """Where the text leaves the shape: title, summary, then sections that are lists of links."""
    title, _, rest = text.partition("\n")
    found = [] if title.startswith("# ") else ["no title"]
    summary, *sections = rest.split("\n## ")
    found += [] if summary.startswith("\n> ") else ["no summary"]
    for section in sections:
        name, blank, *lines = section.strip().split("\n")
        found += [f"{name}: {line!r}" for line in lines if blank or not ITEM.fullmatch(line)]
    return found


def test_the_file_lists_every_page_below_the_caption_that_leads_to_it(site: Site) -> None:
    built = site.build(html_baseurl=SITE, project="Tiny")
    assert built.warnings == ""
    text = (built.out / "llms.txt").read_text("utf-8")
    assert text == EXPECTED
    assert problems(text) == []


@pytest.mark.parametrize("wrong", ["](https", "> What", "# Tiny\n"])
def test_the_check_notices_another_shape(wrong: str) -> None:
    assert problems(EXPECTED.replace(wrong, ""))


def test_without_an_address_there_is_no_such_file(site: Site) -> None:
    assert (site.build(html_baseurl=SITE).out / "llms.txt").exists()
    built = site.build()
    assert built.warnings == ""
    assert not (built.out / "llms.txt").exists()


def test_a_rebuild_of_one_page_keeps_the_others(site: Site) -> None:
    site.build(html_baseurl=SITE, project="Tiny")
    site.write("docs/glossary.md", "# Words\n\nAll of them.\n")
    built = site.build(html_baseurl=SITE, project="Tiny", jobs=2)
    assert built.read == {"glossary"}
    changed = f"- [Words]({SITE}/glossary.html): All of them.\n"
    assert (built.out / "llms.txt").read_text("utf-8") == re.sub(
        r"- \[Words.*\n", changed, EXPECTED
    )


def test_two_workers_write_the_same(site: Site) -> None:
    built = site.build(html_baseurl=SITE, project="Tiny", jobs=2)
    assert built.warnings == ""
    assert (built.out / "llms.txt").read_text("utf-8") == EXPECTED


def test_a_page_in_two_tables_of_contents_is_listed_once(site: Site) -> None:
    more = "\n```{toctree}\n:hidden:\n\napi/nn\n```\n"
    site.write("docs/index.md", INDEX + more)
    text = (site.build(html_baseurl=SITE).out / "llms.txt").read_text("utf-8")
    assert text.count("/api/nn.html") == 1
    assert "## Pages" not in text, "no section without a page"


def test_pages_without_a_caption_have_a_section(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.page("a", "# A\n")
    text = (site.build(html_baseurl=SITE).out / "llms.txt").read_text("utf-8")
    assert f"## Pages\n\n- [A]({SITE}/pages/a.html)\n" in text
