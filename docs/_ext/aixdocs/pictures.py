"""Thumbnails of the concept cards: the still picture of a page's first figure.

A browser draws the pictures in a step of its own and names them by the figure's hash; the package's
renderer copies them to ``_static/aix-pictures``. A card without a picture has none.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from .addresses import up_from
from .perpage import PerPage

FIGURES = PerPage("aix_figure_hashes")
"""Hashes of the figures of each page, in its order."""

SLOTS = PerPage("aix_picture_slots")
PICTURES = "aix-pictures"


class picture_slot(nodes.Element):  # noqa: N801
    """Where the picture of ``page`` goes, if there is one."""


def note(app: Sphinx, doctree: nodes.document) -> None:
    """Note the page's figures, and whether the page shows pictures of others."""
    found = [n["aix_figure"]["hash"] for n in doctree.findall(nodes.raw) if "aix_figure" in n]
    if found:
        FIGURES.table(app.env)[app.env.docname] = found
    if next(iter(doctree.findall(picture_slot)), None) is not None:
        SLOTS.table(app.env)[app.env.docname] = True


def first_figure(env: BuildEnvironment, docname: str) -> str | None:
    """Hash of the first figure of a page."""
    return next(iter(FIGURES.table(env).get(docname, [])), None)


def rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Other pages' figures may have changed since, so pages with slots are always written."""
    return list(SLOTS.table(env))


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    folder = Path(app.srcdir, app.config.aix_pictures)
    for slot in list(doctree.findall(picture_slot)):
        name = f"{first_figure(app.env, slot['page'])}.png"
        if app.builder.format == "html" and (folder / name).is_file():
            up = up_from(app, docname)
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
    FIGURES.connect(app)
    SLOTS.connect(app)
