"""Executed pages as notebooks for JupyterLab and Colab, in ``notebooks/<page>.ipynb``.

A page's source is MyST, which Jupyter shows as noise. So the prose is taken from the built page and
the code with its outputs from the notebook that MyST-NB executed; a class on each code cell says
where in the page it stands. Cells that the page hides are in the notebook too: it runs from top to
bottom.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from aiexplained.viz.html import FIGURE_MIME

from . import notebookcells, notebookmd
from .addresses import BUILDERS, address, up_from
from .card import page_facts
from .fresh import PAGES, last_execution
from .fulltext import article

FOLDER = "notebooks"
MADE_BY = tuple(Path(file) for file in (__file__, notebookcells.__file__, notebookmd.__file__))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""The same whether a page was executed or its results came from the cache."""

NOTE = "This notebook is a page of {project}{link}, with its results."
FIGURES_NOTE = "The figures come to life as you run the cells, or choose “Trust Notebook”."

GET_PACKAGE = """\
# Where the package is missing (in Colab, say), get it, with its recorded results.
try:
    import aiexplained
except ModuleNotFoundError:
    !git clone --quiet --depth 1 {repository} aiexplained-checkout
    %pip install --quiet "./aiexplained-checkout[all]"
    %env AIEXPLAINED_DATA=aiexplained-checkout/docs/_data"""

ASK_FOR_PACKAGE = """\
try:
    import aiexplained
except ModuleNotFoundError as error:
    message = "Install the package first: 'pip install -e .[all]' in a checkout of {project}."
    raise ModuleNotFoundError(message) from error"""


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Pages whose notebook MyST-NB has not written beside this output folder."""
    if app.builder.name not in BUILDERS:
        return []
    pages = env.found_docs & PAGES.table(env).keys()
    return sorted(page for page in pages if not _source(app, page).is_file())


def _source(app: Sphinx, docname: str) -> Path:
    return Path(app.env.mystnb_config.output_folder, f"{docname}.ipynb")


def mark_cells(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Name each code cell by its index in the notebook, so that the built page says where it is."""
    for node in doctree.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            node["classes"].append(f"aix-cell-{node['cell_index']}")


def add_links(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Offer the notebook below the title of an executed page, or in the head that stands there."""
    if app.builder.name not in BUILDERS or last_execution(app.env, docname) is None:
        return
    file = f"{up_from(app, docname)}{FOLDER}/{docname}.ipynb"
    links = [f'<a href="{file}" download>Download as notebook</a>']
    if colab := colab_address(app, docname):
        links.append(f'<a href="{html.escape(colab)}">Open in Colab</a>')
    facts = next(iter(doctree.findall(page_facts)), None)
    above = facts or next(iter(doctree.findall(nodes.title)), None)
    if above is not None:
        line = nodes.raw("", " · ".join(links), format="html")
        place = above.parent.index(above) + 1
        above.parent.insert(place, nodes.paragraph("", "", line, classes=["aix-head-links"]))


def colab_address(app: Sphinx, docname: str) -> str:
    """Where Colab opens the page's notebook; nothing unless the repository is on github.com."""
    found = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(\.git)?/?", app.config.aix_repository)
    if not found:
        return ""
    branch = app.config.aix_notebook_branch
    return f"https://colab.research.google.com/github/{found[1]}/blob/{branch}/{docname}.ipynb"


def write_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Bring the folder up to date: only pages built since are converted, others' files go."""
    if error or app.builder.name not in BUILDERS:
        return
    folder = Path(app.outdir, FOLDER)
    wanted = set()
    for docname in sorted(PAGES.table(app.env)):
        if last_execution(app.env, docname):
            target = folder / f"{docname}.ipynb"
            wanted.add(target)
            _write_if_older(app, docname, target)
    for leftover in set(folder.rglob("*.ipynb")) - wanted:
        leftover.unlink()


def _write_if_older(app: Sphinx, docname: str, target: Path) -> None:
    page = Path(app.builder.get_outfilename(docname))
    newest = max(path.stat().st_mtime_ns for path in (page, _source(app, docname), *MADE_BY))
    if not target.is_file() or target.stat().st_mtime_ns < newest:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(notebook_text(app, docname, page), encoding="utf-8")


def notebook_text(app: Sphinx, docname: str, page: Path) -> str:
    """The notebook of one page as JSON text, the same for the same page.

    MyST-NB writes a notebook without its outputs when they came from the cache, so they are always
    taken from there.
    """
    where = address(app, docname)
    cache = get_cache(Path(app.env.aix_cache_base, docname, PAGES.table(app.env)[docname][0]))
    _, executed = cache.merge_match_into_notebook(
        nbformat.read(_source(app, docname), as_version=4)
    )
    prose = notebookmd.pieces(article(page, base=where), where)
    cells = [*opening(app, docname, executed), *notebookcells.merged(executed, prose)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return nbformat.writes(new_notebook(cells=cells, metadata=METADATA)) + "\n"


def opening(app: Sphinx, docname: str, executed: NotebookNode) -> list[NotebookNode]:
    """What the notebook is, and a cell that gets the package where it is missing."""
    config = app.config
    where = address(app, docname)
    link = f" ([the page itself]({where}))" if where else ""
    notes = [NOTE.format(project=config.project, link=link)]
    outputs = (output for cell in executed.cells for output in cell.get("outputs", []))
    if any(FIGURE_MIME in output.get("data", {}) for output in outputs):
        notes.append(FIGURES_NOTE)
    if config.copyright:
        notes.append(f"{config.copyright}.")
    code = GET_PACKAGE if config.aix_repository else ASK_FOR_PACKAGE
    setup_code = code.format(repository=config.aix_repository, project=config.project)
    return [new_markdown_cell(f"*{' '.join(notes)}*"), new_code_cell(setup_code)]


def setup(app: Sphinx) -> None:
    app.add_config_value("aix_notebook_branch", "notebooks", "html", [str])
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-resolved", mark_cells)
    app.connect("doctree-resolved", add_links)
    app.connect("build-finished", write_notebooks)
