"""An execution cache that notices edits of the package.

jupyter-cache keys a notebook on its cells alone. Here every page has its own cache folder, named by
a hash of its cells, of the modules and data that they use (see ``closure``), and of the versions of
what computes: an edit re-executes exactly the pages that use what changed, an undone edit finds the
old folder again, and parallel workers never share a database.

A folder counts only when it holds the date of a finished execution; one without is a leftover of an
interrupted or failed build, and is removed before the page is read.
"""

from __future__ import annotations

import ast
import datetime as dt
import hashlib
import json
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.core.read import create_nb_reader
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from aiexplained.provenance import fingerprint

from .closure import closure
from .lookup import warn
from .perpage import PerPage

PAGES = PerPage("aix_fresh_pages")
STAMP = "executed.txt"
KEPT = 5
"""Finished executions of a page that are kept, so that an undone edit need not be executed."""


def remember_base(app: Sphinx) -> None:
    app.env.aix_cache_base = app.env.mystnb_config.execution_cache_path


def choose_folder(app: Sphinx, docname: str, content: list[str]) -> None:
    """Point myst-nb at the page's own cache folder, if the page has code cells."""
    cells = _code_cells(app.env, docname, content[0])
    if not cells:
        return
    cells = [(source, meta) for source, meta in cells if _is_python(source, docname)]
    key = page_key(app, cells)
    folder = Path(app.env.aix_cache_base, docname, key)
    if folder.exists() and not (folder / STAMP).is_file():
        shutil.rmtree(folder)
    PAGES.table(app.env)[docname] = (key, cells)
    config = app.env.mystnb_config
    app.env.mystnb_config = config.copy(execution_cache_path=str(folder))


def _code_cells(env: BuildEnvironment, docname: str, text: str) -> list[tuple[str, str]]:
    """Source and metadata (as JSON) of the code cells, or none for a plain Markdown page."""
    path = str(env.doc2path(docname))
    reader = create_nb_reader(path, env.myst_config, env.mystnb_config, text)
    if reader is None:
        return []
    cells = [cell for cell in reader.read(text).cells if cell.cell_type == "code"]
    return [(cell.source, json.dumps(cell.metadata, sort_keys=True)) for cell in cells]


def _is_python(source: str, docname: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError as error:
        warn(f"a code cell is not plain Python: {error.msg} in {error.text!r}", docname)
        return False
    return True


def page_key(app: Sphinx, cells: list[tuple[str, str]]) -> str:
    """Hash of everything that the outputs of ``cells`` depend on."""
    config = app.config
    data = Path(app.srcdir, config.aix_data_folder)
    used = closure((source for source, _ in cells), config.aix_fresh_packages, data)
    parts = [cells, fingerprint(used), platform.python_version()]
    parts += [(name, _version(name)) for name in sorted(config.aix_fresh_distributions)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Pages whose cells would now run other code than when they were read, or that failed."""
    if app.config.nb_execution_mode != "cache":
        return []
    return [
        docname
        for docname, (key, cells) in PAGES.table(env).items()
        if docname in env.found_docs
        and (last_execution(env, docname) is None or page_key(app, cells) != key)
    ]


def stamp(app: Sphinx, doctree: nodes.document) -> None:
    """Date the folder of a page that was executed without an error."""
    page = PAGES.table(app.env).get(app.env.docname)
    done: dict[str, Any] | None = NbMetadataCollector.get_exec_data(app.env, app.env.docname)
    if page and done and done["succeeded"]:
        folder = Path(app.env.aix_cache_base, app.env.docname, page[0])
        if folder.is_dir() and not (folder / STAMP).is_file():
            (folder / STAMP).write_text(_today() + "\n", encoding="ascii")
            _forget_oldest(folder.parent)


def _forget_oldest(page: Path) -> None:
    stamps = sorted(page.glob(f"*/{STAMP}"), key=lambda path: path.stat().st_mtime)
    for stamp_file in stamps[:-KEPT]:
        shutil.rmtree(stamp_file.parent)


def _today() -> str:
    """Today in UTC, or the date that a reproducible build asks for."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = dt.datetime.fromtimestamp(int(epoch), dt.UTC) if epoch else dt.datetime.now(dt.UTC)
    return now.date().isoformat()


def last_execution(env: BuildEnvironment, docname: str) -> str | None:
    """Date of the page's last execution, ISO 8601, if it was executed."""
    page = PAGES.table(env).get(docname)
    if page is None:
        return None
    path = Path(env.aix_cache_base, docname, page[0], STAMP)
    return path.read_text(encoding="ascii").strip() if path.is_file() else None


def setup(app: Sphinx) -> None:
    app.setup_extension("myst_nb")
    app.add_config_value("aix_data_folder", "_data", "env", [str])
    app.add_config_value(
        "aix_fresh_packages", ["aiexplained", "aiexplained_kernels"], "env", [list]
    )
    distributions = ["bokeh", "numpy", "torch"]
    app.add_config_value("aix_fresh_distributions", distributions, "env", [list])
    app.connect("builder-inited", remember_base, priority=900)
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", choose_folder, priority=900)
    app.connect("doctree-read", stamp, priority=100)
    PAGES.connect(app)
