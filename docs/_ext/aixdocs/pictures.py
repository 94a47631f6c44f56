"""Thumbnails of the concept cards: the still picture of a page's first figure.

A browser draws the pictures in a step of its own and names them by the figure's hash; the package's
renderer copies them to ``_static/aix-pictures``. A card without a picture has none.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from .perpage import PerPage

FIRST_FIGURES = PerPage("aix_first_figures")
SLOTS = PerPage("aix_picture_slots")
PICTURES = "aix-pictures"


class picture_slot(nodes.Element):  # noqa: N801
    """Where the picture of ``page`` goes, if there is one."""


def note(app: Sphinx, doctree: nodes.document) -> None:
    """Note the page's first figure, and whether the page shows pictures of others."""
    figure = next((n for n in doctree.findall(nodes.raw) if "aix_figure" in n), None)
    if figure is not None:
        FIRST_FIGURES.table(app.env)[app.env.docname] = figure["aix_figure"]["hash"]
    if next(iter(doctree.findall(picture_slot)), None) is not None:
        SLOTS.table(app.env)[app.env.docname] = True


def rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Other pages' figures may have changed since, so pages with slots are always written."""
    return list(SLOTS.table(env))


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    folder = Path(app.srcdir, app.config.aix_pictures)
    for slot in list(doctree.findall(picture_slot)):
        figure = FIRST_FIGURES.table(app.env).get(slot["page"])
        name = f"{figure}.png"
        if app.builder.format == "html" and (folder / name).is_file():
            up = "../" * app.builder.get_target_uri(docname).count("/")
            html = (
                f'<img class="aix-card-picture" src="{up}_static/{PICTURES}/{name}" alt="" '
                'loading="lazy">'
            )
            slot.replace_self(nodes.raw("", html, format="html"))
        else:
            slot.parent.remove(slot)


def setup(app: Sphinx) -> None:
    app.setup_extension("aiexplained.viz.render")
    app.connect("doctree-read", note)
    app.connect("env-updated", rewrite)
    app.connect("doctree-resolved", fill)
    FIRST_FIGURES.connect(app)
    SLOTS.connect(app)
