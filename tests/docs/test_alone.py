"""One page can be built alone, without reading or executing the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from sphinx.errors import ConfigError
from tiny import Site

INDEX = "# Home\n\n```{concept-cards}\n```\n\n```{toctree}\npages/plain\n```\n"


@pytest.fixture
def two_concepts(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.write("docs/index.md", INDEX)
    links = "{doc}`/concepts/one`, {doc}`/concepts/two`, [there](../concepts/two.md#more)"
    site.page("plain", f"# Plain\n\nSee {links} and {{ref}}`labeled`.\n")
    text = "Words.\n\n## More\n\nOther words."
    for name in ("one", "two"):
        site.concept(name, title=name.capitalize())
        site.notebook(f"concepts/{name}", "print(1 + 1)", title=name.capitalize(), text=text)
    conf, page = (tmp_path / "docs" / name for name in ("conf.py", "concepts/two.md"))
    conf.write_text(conf.read_text("utf-8") + "myst_heading_anchors = 3\n", "utf-8")
    moved = page.read_text("utf-8").replace("---\n", "---\nmoved_from: old/two\n", 1)
    page.write_text(moved.replace("## More", "(labeled)=\n## More"), "utf-8")
    return site


def test_only_the_page_is_executed_and_nothing_is_warned_of(two_concepts: Site) -> None:
    built = two_concepts.build(aix_only="concepts/one")
    assert built.warnings == ""
    assert built.executed == 1
    assert "<h1>Two" in built.html("concepts/two")
    assert "left out of this build" in built.html("concepts/two")
    assert "Other words" not in built.html("concepts/two")
    assert 'href="../concepts/two.html#more"' in built.html("pages/plain")
    assert "two.html" in built.html("old/two"), "its old address leads to it"
    assert "left out of this build" not in built.html("concepts/one") + built.html("pages/plain")


def test_the_rest_is_still_checked(two_concepts: Site) -> None:
    two_concepts.page("plain", "# Plain\n\n{verdict}`one:no-such-claim`\n")
    assert "no-such-claim" in two_concepts.build(aix_only="concepts/one").warnings


def test_without_the_option_both_are_built(two_concepts: Site) -> None:
    built = two_concepts.build()
    assert built.warnings == ""
    assert built.executed == 2


def test_a_concept_without_a_page_is_a_warning_here_too(two_concepts: Site) -> None:
    (two_concepts.folder / "docs" / "concepts" / "two.md").unlink()
    two_concepts.page("plain", "# Plain\n\n```{claims-ledger}\n```\n")
    warnings = two_concepts.build(aix_only="concepts/one").warnings
    assert "nonexisting document 'concepts/two'" in warnings


def test_an_unknown_page_is_refused(two_concepts: Site) -> None:
    with pytest.raises(ConfigError, match="there is no page 'concepts/three'"):
        two_concepts.build(aix_only="concepts/three")
