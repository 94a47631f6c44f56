"""A tiny site built by Sphinx and MyST-NB: what a page shows, and that a cached build equals it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aiexplained.viz import render

PACKAGE = Path(render.__file__).parents[2]

CONF = """
extensions = ["myst_nb", "aiexplained.viz.render"]
html_theme = "basic"
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_output_stderr = "error"
"""

PAGE = """---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3}
---
# Page

```{code-cell}
import numpy as np
from aiexplained import viz
viz.publish(cut=-22.7345, model="tiny", tokens=12345)
```

The cut is {glue:text}`cut:.1f` % of {glue:text}`tokens:,.0f` tokens with {glue:text}`model`.

```{code-cell}
plot = viz.figure("It falls")
plot.line([1, 2, 3], [3, 2, 1])
viz.show(plot, alt="The line falls.")
```

```{code-cell}
viz.show(plot, alt="The same line once more.")
```

```{code-cell}
large = viz.figure("Large")
x = np.random.default_rng(0).random(20_000).astype("float32")
large.scatter(x, x)
viz.show(large, alt="Many points.")
```

```{code-cell}
from aiexplained.registry import Claim, Concept, Kind, Reading, Source, Verdict
source = Source("doe2026", "T", "Jane Doe", "2026-02-03", "https://doe.example/")
claim = Claim("ttft", "It falls", "−20 %", "Table 2", "doe2026", Kind.MEASURED,
              Verdict.REPRODUCED, -20, -20, "%")
concept = Concept("made_up", "Made Up", "t", "h", "s", "2026-02-03", (source,), (claim,))
viz.claims_table(concept, {"ttft": Reading(-20.0, -21.0, -19.0, "Five seeds.", 5)})
```
"""

WRONG = PAGE.replace("Reading(-20.0, -21.0, -19.0", "Reading(4.0, 3.0, 5.0")


class Tiny:
    """A site of one page in a folder below ``docs/deep``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.source = home / "docs"
        (self.source / "deep").mkdir(parents=True)
        (self.source / "conf.py").write_text(CONF, encoding="utf-8")
        index = "# Tiny\n\n```{toctree}\ndeep/page\n```\n"
        (self.source / "index.md").write_text(index, encoding="utf-8")
        self.write(PAGE)
        # The entry point of an uninstalled checkout; an installed one is found as well.
        info = home / "plugins" / "aiexplained_viz_test-0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Name: aiexplained-viz-test\nVersion: 0\n")
        (info / "entry_points.txt").write_text(
            "[myst_nb.mime_renderers]\naiexplained = aiexplained.viz.render:AixRenderer\n"
        )

    def write(self, page: str) -> None:
        (self.source / "deep" / "page.md").write_text(page, encoding="utf-8")

    def build(self, name: str, builder: str = "html") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", builder]
        command += ["-d", str(self.home / f"trees-{name}"), str(self.source), str(self.out(name))]
        path = os.pathsep.join([str(self.home / "plugins"), str(PACKAGE)])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def out(self, name: str) -> Path:
        return self.home / name

    def page(self, name: str) -> str:
        return (self.out(name) / "deep" / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The site, built once into ``first``."""
    site = Tiny(tmp_path_factory.mktemp("tiny"))
    done = site.build("first")
    assert done.returncode == 0, done.stderr
    return site


def body(page: str) -> str:
    return page[page.index("<body") :]


def test_sentences_quote_published_values_with_their_format(tiny: Tiny) -> None:
    text = re.sub(r"<[^>]+>", "", tiny.page("first"))
    assert "The cut is -22.7 % of 12,345 tokens with tiny." in text
    assert "cut    = -22.7345" not in text, "published values show on the page only where quoted"


def test_figures_are_readable_before_they_are_drawn(tiny: Tiny) -> None:
    page = tiny.page("first")
    assert page.count('<figure class="aix-figure"') == 3
    assert page.count(render.NO_PICTURE) == 3
    assert 'aria-live="polite">The line falls.</figcaption>' in page
    assert "cdn." not in page


def test_a_figure_that_stands_twice_has_two_ids(tiny: Tiny) -> None:
    ids = re.findall(r'<figure class="aix-figure" id="([^"]+)"', tiny.page("first"))
    assert len(set(ids)) == 3
    assert ids[1] == f"{ids[0]}-2"


def test_large_documents_are_scripts_of_their_own(tiny: Tiny) -> None:
    page = tiny.page("first")
    assert page.count('class="aix-document"') == 2
    name = re.findall(r'data-hash="(\w+)"', page)[2]
    script = tiny.out("first") / "_static" / "aix" / "documents" / f"{name}.js"
    assert script.read_text(encoding="utf-8").startswith(f'aiexplained.documents["{name}"] = "')
    assert len(page) < 2 * render.LARGEST_ISLAND < script.stat().st_size


def test_claims_are_a_table_with_headers(tiny: Tiny) -> None:
    page = tiny.page("first")
    assert page.count('<table class="aix-claims-table"') == 1
    assert page.count('scope="col"') == 4
    assert 'id="claim-made-up-ttft"' in page


def test_a_build_from_the_cache_gives_the_same_page(tiny: Tiny) -> None:
    done = tiny.build("second")
    assert done.returncode == 0, done.stderr
    assert body(tiny.page("second")) == body(tiny.page("first"))


def test_a_new_picture_reaches_pages_that_did_not_change(tiny: Tiny) -> None:
    assert tiny.build("third").returncode == 0
    name = re.findall(r'data-hash="(\w+)"', tiny.page("third"))[0]
    folder = tiny.source / "_pictures"
    folder.mkdir()
    (folder / f"{name}.png").write_bytes(b"picture")
    done = tiny.build("third")
    (folder / f"{name}.png").unlink()
    assert done.returncode == 0, done.stderr
    page = tiny.page("third")
    address = f'src="../_static/aix-pictures/{name}.png" alt="The line falls."'
    assert address in page
    assert page.count(render.NO_PICTURE) == 1
    assert (tiny.out("third") / "_static" / "aix-pictures" / f"{name}.png").is_file()


def test_other_builders_show_the_alternative_text(tiny: Tiny) -> None:
    done = tiny.build("text", builder="text")
    assert done.returncode == 0, done.stderr
    text = (tiny.out("text") / "deep" / "page.txt").read_text(encoding="utf-8")
    assert "The line falls." in text
    assert "they report −20 %; we have −20.0 %: reproduced" in text.replace("\u00a0", " ")


def test_an_unsupported_verdict_fails_the_build(tmp_path: Path) -> None:
    site = Tiny(tmp_path)
    site.write(WRONG)
    done = site.build("out")
    assert done.returncode != 0
    assert "UnsupportedVerdict" in done.stderr
