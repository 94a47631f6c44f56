"""Tiny Sphinx sites in a temporary folder, built in this process with the real extension."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

REPOSITORY = Path(__file__).parents[2]

CONF = """
extensions = ["aixdocs"]
html_theme = "basic"
html_math_renderer = "katex-static"
nb_execution_mode = "cache"
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_output_stderr = "error"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
aix_concepts_folder = "registry"
aix_fresh_packages = ["tinylib"]
nitpicky = True
aix_figures = False
"""
STATIC = f'html_static_path = ["{(REPOSITORY / "docs" / "_static").as_posix()}"]\n'

CARDS_INDEX = "# Home\n\n```{concept-cards}\n```\n\n```{toctree}\n:glob:\n\npages/*\n```\n"
"""A start page with the cards of all concepts, for a site that has some."""

CONCEPT = '''"""A concept of a test."""

CONCEPT = Concept(
    name="{name}",
    title="{title}",
    tag="Serving",
    headline="{title} makes the news",
    summary="One plain sentence.",
    date="{date}",
    sources=(
        Source(
            key="doe2026", title="On Tests", authors="Jane Doe, John Roe", date="2026-01-02",
            url="https://example.org/paper",
        ),
    ),
    claims=({claims}),
    prerequisites=({prerequisites}),
)
'''

CLAIM = """Claim(
    id="ttft", statement="Time to first token falls", reported="−20 % to −33 %", where="Table 2",
    source="doe2026", kind=Kind.MEASURED, verdict=Verdict.DIRECTION, reported_low=-33.0,
    reported_high=-20.0, unit="%", direction_zero=0.0, rerun="run it",
),"""


@dataclass(frozen=True)
class Built:
    """One finished build."""

    out: Path
    warnings: str
    status: str

    def html(self, page: str) -> str:
        return (self.out / f"{page}.html").read_text(encoding="utf-8")

    @property
    def read(self) -> set[str]:
        """Pages that were read in this build."""
        return set(re.findall(r"reading sources\.\.\. \[.*?\] (\S+)", self.status))

    @property
    def executed(self) -> int:
        """Notebooks that were executed, not taken from the cache."""
        return self.status.count("Executed notebook in")


class Site:
    """A site whose files the test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("docs/conf.py", CONF + STATIC)
        self.write("docs/index.md", "# Home\n\n```{toctree}\n:glob:\n\npages/*\n```\n")
        (folder / "docs" / "registry").mkdir()
        (folder / "lib").mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def page(self, name: str, text: str) -> Path:
        return self.write(f"docs/pages/{name}.md", text)

    def notebook(self, name: str, *cells: str, title: str = "Page", text: str = "") -> Path:
        return self.write(f"docs/{name}.md", notebook(*cells, title=title, text=text))

    def concept(
        self, name: str, title: str = "Tiny", date: str = "2026-01-03", claims: str = "",
        prerequisites: str = "",
    ) -> Path:  # fmt: skip
        text = CONCEPT.format(
            name=name, title=title, date=date, claims=claims, prerequisites=prerequisites
        )
        return self.write(f"docs/registry/{name}.py", text)

    def build(self, jobs: int = 1, builder: str = "html", **settings: str) -> Built:
        """Build with ``settings`` over those of ``conf.py``, as ``-D name=value`` does."""
        status, warnings = io.StringIO(), io.StringIO()
        docs, out = self.folder / "docs", self.folder / "build" / builder
        with _paths(self.folder / "lib"), patch_docutils(docs), docutils_namespace():
            app = Sphinx(
                docs, docs, out, out.parent / f"{builder}-trees", builder, confoverrides=settings,
                status=status, warning=warnings, parallel=jobs, verbosity=1,
            )  # fmt: skip
            app.build()
        plain = [re.sub(r"\x1b\[[0-9;]*m", "", s.getvalue()) for s in (warnings, status)]
        return Built(out, *plain)


def notebook(*cells: str, title: str = "Page", text: str = "") -> str:
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"
    code = "\n\n".join(f"```{{code-cell}} python3\n{cell}\n```" for cell in cells)
    return f"{head}# {title}\n\n{text}\n\n{code}\n"


@contextmanager
def _paths(library: Path) -> Iterator[None]:
    """This process and the kernels it starts find the package and ``library``."""
    places = [str(library), str(REPOSITORY)]
    environment = {
        "PYTHONPATH": os.pathsep.join(places),
        "IPYTHONDIR": str(REPOSITORY / "docs" / "_ipython"),
    }
    before = list(sys.path)
    sys.path[:0] = places
    try:
        with mock.patch.dict(os.environ, environment):
            yield
    finally:
        sys.path[:] = before
