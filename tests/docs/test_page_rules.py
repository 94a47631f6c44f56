"""Every page keeps the rules of its kind, and each rule notices a page that does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aixdocs.new import TEMPLATES
from aixdocs.pagerules import SECTIONS, left_over, problems
from aixdocs.pagesource import Page

from aiexplained.registry import Concept, concepts

DOCS = Path(__file__).parents[2] / "docs"
FILES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if not {p for p in path.relative_to(DOCS).parts if p.startswith("_") or p == "jupyter_execute"}
)
PAGES = [Page(path.relative_to(DOCS).as_posix(), path.read_text("utf-8")) for path in FILES]
NAMES = [name for c in concepts() for name in (c.title, *(source.title for source in c.sources))]

HEAD = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"
FOUNDATION = HEAD + "# Caching\n\nSee {glue:text}`n` of them.\n"
CONCEPT = HEAD + "# New idea\n\n```{concept-card} new_idea\n```\n\n" + "\n\n".join(
    f"## {section}\n\nSome words." for section in SECTIONS
)  # fmt: skip


def cell(code: str) -> str:
    return f"\n```{{code-cell}} python3\n:tags: [hide-input]\n\n{code}\n```\n"


def found(text: str, name: str = "foundations/x.md", names: tuple[str, ...] = ()) -> list[str]:
    return problems(Page(name, text), names)


def typed(sentence: str, **more: tuple[str, ...]) -> list[str]:
    return re.findall(r"number '(.+?)'", "\n".join(found(f"# Page\n\n{sentence}\n", **more)))


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_keeps_the_rules(page: Page) -> None:
    assert not problems(page, NAMES)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_nothing_of_the_skeleton_is_left_on_a_page(page: Page) -> None:
    skeleton = Page("page.md", (TEMPLATES / "page.md").read_text("utf-8"))
    assert not list(left_over(page, skeleton))
    assert list(left_over(skeleton, skeleton)), "the skeleton itself would be noticed"


def test_nothing_of_the_skeleton_is_left_in_a_concept() -> None:
    skeleton = (TEMPLATES / "module.py").read_text("utf-8")
    texts = [text for concept in concepts() for text in said(concept)]
    assert not [text for text in texts if f'"{text}"' in skeleton]
    assert '"Write the title as published"' in skeleton, "the skeleton itself would be noticed"


def said(concept: Concept) -> list[str]:
    """What a concept says in words of its own."""
    texts = [concept.tag, concept.headline, concept.summary]
    texts += [text for s in concept.sources for text in (s.title, s.authors, s.url, s.note) if text]
    return texts + [text for c in concept.claims for text in (c.statement, c.reported, c.where)]


def test_the_pages_that_the_controls_start_from_keep_the_rules() -> None:
    assert not found(FOUNDATION + cell("viz.publish(n=3)"))
    assert not found(CONCEPT, "concepts/new-idea.md")
    assert not found(CONCEPT + "\n\n## Appendix\n\n```{folded} More\n```\n", "concepts/new-idea.md")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FOUNDATION.replace("file_format: mystnb\n", "") + cell("viz.publish(n=3)"),
         "1: a page with cells needs 'file_format: mystnb'"),
        (FOUNDATION.replace("  name: python3\n", "  display_name: Python\n")
         + cell("viz.publish(n=3)"), "1: a page with cells needs a kernelspec"),
        ("---\nsince:\n- 2026-06-01\n---\n\n# Page\n", "3: quote the date 2026-06-01"),
        ("Words only.\n", "1: no heading"),
        ("# One\n\n# Two\n", "3: exactly the first heading is of level 1"),
        ("## Two\n\n# One\n", "1: exactly the first heading is of level 1"),
        ("# One\n\n## Two\n\n#### Four\n", "5: 'Four' skips from level 2 to 4"),
        (FOUNDATION, "9: no cell of this page publishes 'n'"),
        (FOUNDATION + cell("print(n=3)"), "9: no cell of this page publishes 'n'"),
        (FOUNDATION + cell("viz.publish(**{'n': 3})"), "11: publish names its values one by one"),
    ],
)  # fmt: skip
def test_front_matter_headings_and_glue_are_checked(text: str, problem: str) -> None:
    assert any(line.startswith(f"foundations/x.md:{problem}") for line in found(text)), found(text)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("\n".join(["x = 1"] * 15 + ["x"]), "16 lines, at most 15"),
        ("def f():\n    return 1\nf()", "defines a function or class"),
        ("if x:\n    class A: pass\nx", "defines a function or class"),
        ("f(lambda: 1, lambda: 2)", "several lambdas"),
        ("!ls", "installs nothing"),
        ("%pip install bokeh", "installs nothing"),
        ("run('python -m pip -q install bokeh')", "installs nothing"),
        ("x = (", "not plain Python"),
        ("x = 1", "neither ends in an expression nor publishes"),
        ("", "neither ends in an expression nor publishes"),
    ],
)
def test_cells_are_checked(code: str, problem: str) -> None:
    (line,) = found(HEAD + "# Page\n" + cell(code))
    assert line.startswith("foundations/x.md:9: code cell: ")
    assert problem in line


@pytest.mark.parametrize("code", ["\n".join(["x"] * 15), "f(lambda: 1)", "x = 9\n(x\n % 4)"])
def test_cells_that_show_something_pass(code: str) -> None:
    assert not found(HEAD + "# Page\n" + cell(code))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("## Predict", "## Guess", "16: expected 'Predict' as the next section, found 'Guess'"),
        ("## Read next", "### Read next", "expected 'Read next' as the next section"),
        ("## Read next", "## Read next\n\n## More", "expected 'the end' as the next section"),
        ("## Predict", "## Appendix\n\n```{folded} A\n```\n\n## Predict", "16: an appendix stands"),
        ("## Read next", "## Appendix\n\nWords.\n\n## Read next", "an appendix is folded"),
        ("{concept-card} new_idea", "{concept-card} other", "9: the title is followed by one"),
        ("```{concept-card}", "Words.\n\n```{concept-card}", "9: the title is followed by one"),
        ("mean?\n\n", "mean?\n\n" + "word " * 298, "12: 300 words, must be fewer than 300"),
        ("mean?\n\n", "mean?\n\nLet $x$ be.\n\n", "14: no equation"),
        ("mean?\n\n", "mean?\n\nLet {math}`x` be.\n\n", "14: no equation"),
        ("mean?\n\n", "mean?\n\n```{math}\nx\n```\n\n", "14: no equation"),
    ],
)  # fmt: skip
def test_a_concept_page_is_checked(old: str, new: str, problem: str) -> None:
    assert CONCEPT.count(old) == 1
    lines = found(CONCEPT.replace(old, new), "concepts/new-idea.md")
    assert any(problem in line for line in lines), lines


def test_tables_targets_and_code_do_not_count_as_words_or_equations() -> None:
    words = "word " * 290 + "{term}`two words <prefill>` [one](https://example.org/a/b)\n\n"
    table = "| a | b |\n|---|---|\n" + "| many words | in a table |\n" * 9
    page = CONCEPT.replace("mean?\n\n", f"mean?\n\n{words}`$HOME` and `$x$`\n\n{table}\n")
    assert not found(page, "concepts/new-idea.md")


@pytest.mark.parametrize(
    ("sentence", "number"),
    [
        ("It is 20 % faster.", "20"),
        ("A prompt of 1,000 tokens.", "1,000"),
        ("It is 3.5x faster, they say.", "3.5x"),
        ("A model of 135M weights.", "135M"),
        ("The ratio 7:1 wins.", "7:1"),
        ("A context of 2048 tokens.", "2048"),
        ("We drew 2000 people.", "2000"),
        ("It grew to 2000 tokens.", "2000"),
        ("The top-5 passages.", "top-5"),
        ("| a | 12 ms |", "12"),
        ("Only 4 heads of `x` and $y$.", "4"),
        ("```{note}\nAbout 7 GB.\n```", "7"),
        (":::{dropdown} All 9 of them\nWords.\n:::", "9"),
        (":::{predict}\nHow much?\n\n- (x) Half, 12 % :: Yes.\n- ( ) All :: No.\n:::", "12"),
        (":::{recall}\nHow much?\n\n- (x) Half :: Yes.\n- ( ) All, 50 :: No, 12.\n:::", "12"),
    ],
)
def test_a_number_typed_into_prose_is_found(sentence: str, number: str) -> None:
    assert typed(sentence) == [number]


@pytest.mark.parametrize(
    "sentence",
    [
        "Two of three, and a hundred more.",
        "In June 2026, since 2023, on 2026-06-01, from 18 June 2026 to July 1, 2026 (2027).",
        "Tan et al. 2026 say so in Eq. 1, Table 2, figures 3 and 4a, Section 4.2, Appendix B.1.",
        "See arXiv:2606.19667 and § 3.",
        "SmolLM2-135M, GPT-4, 1F1B, bf16, p90, H100, a 2D plot, Python 3.11 and vLLM 0.10.2.",
        "Code `x = 3`, a span ``a `1` b``, a role {reported}`x:n1`, over\nlines `a 1\nb 2`.",
        "Math $x_1 = 2$ and\n\n$$\nx = 3\n$$\n\n\\begin{align}\nx &= 4\n\\end{align}",
        "[A link](https://example.org/5), <https://example.org/6>, a note[^7].\n\n[^7]: Note.",
        "1. One\n2. Two",
        "```python\nx = 8\n```\n\n```{literalinclude} x.py\n:lines: 1-9\n```",
        ":::{predict}\n:guess: 0 80 1 %\n\nHow much?\n:::",
        ":::{recall}\nHow much?\n\n- ( ) All 5\n  of 9 :: No.\n- (x) None :: Yes.\n:::",
    ],
)
def test_what_is_no_typed_number_passes(sentence: str) -> None:
    assert typed(sentence) == []


def test_a_title_may_contain_a_number() -> None:
    assert typed("New 1.1 Small is here.") == ["1.1"]
    assert typed("New 1.1 Small is here.", names=("New 1.1 Small",)) == []


def test_numbers_may_be_typed_where_nothing_is_claimed() -> None:
    assert not found("# Build\n\nIt takes 5 minutes.\n", "guide/build.md")
