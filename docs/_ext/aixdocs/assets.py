"""Scripts and styles of the figures: they live in the package and are copied beside the pages.

Only pages that show a figure or a claims table load them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders import Builder

MARKS = ("aix_figure", "aix_claims")
"""Attributes that the package's renderer gives to the nodes of figures and claims tables."""


def has_live_parts(doctree: nodes.document) -> bool:
    return any(mark in node for node in doctree.findall(nodes.Element) for mark in MARKS)


def add_files(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is not None and has_live_parts(doctree):
        app.add_js_file("aix/explorables.js", loading_method="defer")
        app.add_css_file("aix/explorables.css")


def copy_files(app: Sphinx, builder: Builder) -> None:
    """Before the pages, which name each file with its checksum."""
    if builder.format == "html" and app.config.aix_figures:
        from aiexplained.viz.assets import static_files  # needs Bokeh, which small sites may lack

        for name, source in static_files().items():
            target = Path(app.outdir, "_static", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def setup(app: Sphinx) -> None:
    app.add_config_value("aix_figures", True, "html", [bool])
    app.connect("html-page-context", add_files)
    app.connect("write-started", copy_files)
