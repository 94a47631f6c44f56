"""Notebooks of executed pages: they read well without the site, and run from top to bottom."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from aixdocs.notebookmd import pieces
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from tiny import Built, Site

HOME = """# Home

```{toctree}
:glob:

pages/*
```

```{glossary}
prompt
: What the model reads.
```
"""

PAGE = r"""---
file_format: mystnb
kernelspec:
  name: python3
  display_name: Python 3
---

# Tiny

```{concept-card} tiny
```

## First

Of *all* {term}`prompts <prompt>`, ~3 or ~4 cost \$5 or \$7 and snake_case, says
{reported}`tiny:ttft`; see {doc}`/index` and [elsewhere](https://example.org/x). A number:
{glue:text}`seven`.
2\. is no list.

| in $a\|b$ | or `c` |
|---|---|
| one | {term}`prompt` |

```{math}
:label: law

x^2
= y_1
```

By {eq}`law`, $z$ follows.

:::{predict}
Which {term}`prompt`?

- ( ) All :: Not $k$.
- (x) One :: Right.

The reveal.
:::

:::{predict}
:guess: 0 80 5 %
:answer: 30

How many?
:::

```{code-cell} python3
:tags: [remove-cell]

from myst_nb import glue

hidden = 7
glue("seven", hidden)
```

```{code-cell} python3
:tags: [hide-input]

shown = hidden + 1
print("shown", shown)
```

Between.

```{code-cell} python3
:tags: [remove-input]

silent = shown + 1
```

## Second

```python
x = "a * b"  # ## no heading
```

```{folded} The *long* tail
```

Folded text.

```{code-cell} python3
print("last", silent)
```

After.

```{code-cell} python3
:tags: [remove-cell]

end = silent
```
"""

NOISE = re.compile(r"\{[\w:-]+\}`|```\{|:::|</?(aix-|div|span|section)|[\ue000-\uf8ff]")
"""What Jupyter would show as it stands: roles, directives, the site's own HTML, our marks."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def make_site(folder: Path) -> Site:
    site = Site(folder)
    site.write("docs/index.md", HOME)
    site.concept("tiny", claims=CLAIM)
    site.page("tiny", PAGE)
    return site


CLAIM = """Claim(
    id="ttft", statement="It falls", reported="−20 %", where="Table 2", source="doe2026",
    kind=Kind.NONE, verdict=Verdict.NOT_TESTABLE, why="no code",
),"""


def configure(site: Site, **values: str) -> None:
    conf = site.folder / "docs" / "conf.py"
    lines = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    conf.write_text(conf.read_text(encoding="utf-8") + lines, encoding="utf-8")


def path_of(built: Built, page: str = "pages/tiny") -> Path:
    return built.out / "notebooks" / f"{page}.ipynb"


def read(built: Built) -> NotebookNode:
    assert built.warnings == ""
    found = nbformat.read(path_of(built), as_version=4)
    nbformat.validate(found)
    return found


def markdown(notebook: NotebookNode) -> str:
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def outline(notebook: NotebookNode) -> list[str]:
    """First line of each cell."""
    return [cell.source.splitlines()[0] for cell in notebook.cells]


def run(notebook: NotebookNode) -> str:
    """Run all cells in a real kernel and return what they print."""
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = (o for cell in notebook.cells for o in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs)


def test_prose_and_all_code_stand_in_the_order_of_the_page(site: Site) -> None:
    notebook = read(site.build())
    assert outline(notebook)[2:] == [
        "# Tiny",
        "## First",
        "from myst_nb import glue",
        "shown = hidden + 1",
        "Between.",
        "silent = shown + 1",
        "## Second",
        'print("last", silent)',
        "After.",
        "end = silent",
    ]
    collapsed = [c.metadata.get("jupyter") == {"source_hidden": True} for c in notebook.cells]
    assert [i for i, hidden in enumerate(collapsed) if hidden] == [4, 7, 11]
    assert notebook.cells[5].outputs[0].text == "shown 8\n"


def test_the_prose_is_plain_markdown(site: Site) -> None:
    built = site.build()
    text = markdown(read(built))
    for part in (
        "Of *all* prompts, \\~3 or \\~4 cost \\$5 or \\$7 and snake\\_case, says −20 % ",
        "see Home and [elsewhere](https://example.org/x). A number: 7. 2. is no list.",
        "| in $a\\vert b$ | or `c` |\n| --- | --- |\n| one | prompt |",
        "$$\nx^2\n= y_1 \\tag{1}\n$$\n\nBy (1), $z$ follows.",
        '```python\nx = "a * b"  # ## no heading\n```',
        "**The \\*long\\* tail**\n\nFolded text.",
        "> **Serving** 2026-01-03\n>\n> **Tiny makes the news**\n>\n"
        "> Source: [On Tests](https://example.org/paper), Jane Doe, John Roe, 2026",
    ):
        assert part in text
    assert not NOISE.search(text)
    executed = built.out.parent / "jupyter_execute" / "pages" / "tiny.ipynb"
    assert NOISE.search(markdown(nbformat.read(executed, as_version=4)))


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<p>1 <b>2</b> &lt;b a&lt;b x&lt;y/ a&amp;b</p>", "1 **2** \\<b a\\<b x\\<y/ a&b"),
        ("<p>## no</p><p>3. no</p><p>- no</p>", "\\## no\n\n3\\. no\n\n\\- no"),
        ("<p>H<sub>2</sub>O <code>a_b*$</code></p>", "H<sub>2</sub>O `a_b*$`"),
        (
            '<div class="admonition note"><p class="admonition-title">Note</p><p>Mind.</p></div>',
            "> **Note**\n>\n> Mind.",
        ),
        ('<p>An <img src="_images/a.png" alt="A"/>image</p>', "An image"),
        (
            '<p><img src="https://example.org/a.png" alt="A"/></p>',
            "![A](https://example.org/a.png)",
        ),
        ('<p><a href="https://example.org/page#here">here</a></p>', "here"),
        ("<dl><dt>term</dt><dd><p>meaning</p></dd></dl>", "**term**\n\nmeaning"),
        (
            '<div class="highlight-ipython3"><div><pre>x_y = "|"</pre></div></div>',
            '```python\nx_y = "|"\n```',
        ),
        (
            '<aside class="list"><aside class="footnote"><span>[1]</span><p>One</p></aside>\n'
            '<aside class="footnote"><span>[2]</span><p>Two</p></aside></aside>',
            "[1] One\n\n[2] Two",
        ),
    ],
)
def test_html_becomes_markdown(page: str, expected: str) -> None:
    article = BeautifulSoup(f"<article>{page}</article>", "html.parser").article
    assert list(pieces(article, "https://example.org/page")) == [expected]


def test_text_is_cut_at_cells_and_headings() -> None:
    page = (
        "<article><h1>A</h1><p>a</p><details><summary>Fold</summary>"
        '<div class="cell aix-cell-4"><pre>code</pre></div><p>b</p></details><h2>B</h2></article>'
    )
    article = BeautifulSoup(page, "html.parser").article
    assert list(pieces(article)) == ["# A\n\na\n\n**Fold**", 4, "b", "## B"]


def test_questions_keep_their_answers_folded(site: Site) -> None:
    text = markdown(read(site.build()))
    choices = (
        "**Predict:** Which prompt?\n\n- All\n- One\n\n<details>\n"
        "<summary>Show the answer</summary>\n\n**✗ Not so: All**\n\nNot $k$.\n\n"
        "**✓ Right: One**\n\nRight.\n\nThe reveal.\n\n</details>"
    )
    assert choices in text
    guess = "**Predict:** How many?\n\nGuess a number from 0 to 80 %.\n\n<details>"
    assert guess in text
    assert "The answer: **30** %" in text


def test_the_notebook_runs_from_top_to_bottom(site: Site) -> None:
    notebook = read(site.build())
    assert run(notebook) == "shown 8\nlast 9\n"
    del notebook.cells[4]
    with pytest.raises(CellExecutionError, match="hidden"):
        run(notebook)


def test_where_the_package_is_missing_the_first_cell_says_how_to_get_it(site: Site) -> None:
    notebook = read(site.build())
    gone = "import sys\nsys.modules['aiexplained'] = None\n"
    notebook.cells[1].source = gone + notebook.cells[1].source
    with pytest.raises(CellExecutionError, match="in a checkout of"):
        run(notebook)


def test_where_the_package_is_there_the_first_cell_gets_nothing(site: Site) -> None:
    configure(site, aix_repository="https://github.com/doe/roe")
    notebook = read(site.build())
    code = notebook.cells[1].source
    assert "git clone --quiet --depth 1 https://github.com/doe/roe aiexplained-checkout" in code
    assert '%pip install --quiet "./aiexplained-checkout[all]"' in code
    assert run(notebook) == "shown 8\nlast 9\n"


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    builds = [make_site(tmp_path / name).build(jobs) for name, jobs in (("a", 1), ("b", 2))]
    assert [built.warnings for built in builds] == ["", ""]
    first, second = (path_of(built).read_bytes() for built in builds)
    assert first == second
    executed = [b.out.parent / "jupyter_execute" / "pages" / "tiny.ipynb" for b in builds]
    assert executed[0].read_bytes() != executed[1].read_bytes()


def test_results_from_the_cache_give_the_same_bytes_too(site: Site) -> None:
    built = site.build()
    fresh = path_of(built).read_bytes()
    site.page("tiny", PAGE.replace("Between.", "In between."))
    site.build()
    assert path_of(built).read_bytes() != fresh
    site.page("tiny", PAGE)
    assert site.build().executed == 0
    assert path_of(built).read_bytes() == fresh


def test_a_lost_folder_of_executed_notebooks_is_made_again(site: Site) -> None:
    built = site.build()
    fresh = path_of(built).read_bytes()
    shutil.rmtree(built.out.parent / "jupyter_execute")
    again = site.build()
    assert again.read == {"pages/tiny"}
    assert again.executed == 0
    assert path_of(again).read_bytes() == fresh


def test_links_are_absolute_where_the_site_has_an_address(site: Site) -> None:
    configure(site, html_baseurl="https://example.org/site")
    text = markdown(read(site.build()))
    assert "([the page itself](https://example.org/site/pages/tiny.html))" in text
    assert "[prompts](https://example.org/site/index.html#term-prompt)" in text
    assert "[elsewhere](https://example.org/x)" in text
    assert "By (1), $z$ follows" in text


def test_figures_keep_what_jupyter_draws_and_lose_what_only_the_site_knows(site: Site) -> None:
    code = (
        "from bokeh.plotting import figure\nfrom aiexplained import viz\n"
        "fig = figure(width=200, height=100)\nfig.scatter([1], [1])\n"
        "viz.show(fig, alt='One dot.')"
    )
    site.notebook("pages/tiny", code, title="Tiny")
    notebook = read(site.build())
    (output,) = notebook.cells[-1].outputs
    assert set(output.data) == {"text/html", "text/plain"}
    assert "aix-document" in output.data["text/html"]
    assert "Trust Notebook" in notebook.cells[0].source
    site.page("tiny", PAGE)
    assert "Trust Notebook" not in read(site.build()).cells[0].source


@pytest.mark.parametrize(
    ("repository", "colab"),
    [
        ("", ""),
        ("https://gitlab.com/doe/roe", ""),
        ("https://github.com/doe/roe.git", "doe/roe/blob/notebooks/pages/tiny.ipynb"),
    ],
)
def test_the_card_offers_the_notebook(site: Site, repository: str, colab: str) -> None:
    configure(site, aix_repository=repository)
    built = site.build()
    assert built.warnings == ""
    (line,) = re.findall(r'<p class="aix-head-links">(.*?)</p>', built.html("pages/tiny"))
    download, *more = re.findall(r'href="(.*?)"', line)
    assert (built.out / "pages" / download).resolve() == path_of(built).resolve()
    assert more == ([f"https://colab.research.google.com/github/{colab}"] if colab else [])
    assert "Download as notebook" not in markdown(read(built))


def test_an_executed_page_without_a_card_offers_it_below_its_title(site: Site) -> None:
    site.notebook("pages/other", "print('other')", title="Other")
    page = BeautifulSoup(site.build().html("pages/other"), "html.parser")
    assert page.h1.find_next("p").a.get_text() == "Download as notebook"


def test_a_page_that_runs_no_code_has_no_notebook(site: Site) -> None:
    site.page("tiny", "# Tiny\n\n```{concept-card} tiny\n```\n")
    built = site.build()
    assert built.warnings == ""
    assert "aix-head-links" not in built.html("pages/tiny")
    assert not path_of(built).exists()


def test_only_changed_pages_are_converted_and_notebooks_of_removed_ones_go(site: Site) -> None:
    site.notebook("pages/other", "print('other')", title="Other")
    first = site.build()
    before = {
        page: path_of(first, page).stat().st_mtime_ns for page in ("pages/tiny", "pages/other")
    }
    site.build()
    assert path_of(first).stat().st_mtime_ns == before["pages/tiny"]
    site.page("tiny", PAGE.replace("Between.", "In between."))
    assert "In between." in markdown(read(site.build()))
    assert path_of(first, "pages/other").stat().st_mtime_ns == before["pages/other"]
    (site.folder / "docs" / "pages" / "other.md").unlink()
    site.build()
    assert path_of(first).exists()
    assert not path_of(first, "pages/other").exists()
