"""The site's side of figures and claims: a mime plug-in of MyST-NB and a small Sphinx extension.

The plug-in (an entry point) turns stored outputs into HTML. The extension (``setup``) knows the
page being written: it puts in the static pictures, for readers without JavaScript, and moves
large documents to scripts of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes

from aiexplained.viz.html import (
    CLAIMS_MIME,
    FIGURE_MIME,
    NO_PICTURE,
    Drawing,
    figure_html,
    figure_id,
    picture_html,
)

PICTURES = "aix-pictures"
DOCUMENTS = "aix/documents"
"""Folders of the pictures and of large documents below ``_static``."""

LARGEST_ISLAND = 50_000
"""Characters of a document that stand in the page itself; larger ones are loaded when near."""

ISLAND = re.compile('<script type="application/json" class="aix-document">([^<]*)</script>')


class AixRenderer:
    """Renders figures and claims tables; found by MyST-NB through its entry point."""

    mime_priority_overrides: ClassVar[list[tuple[str, str, int]]] = [
        (builder, mime, 5)
        for builder in ("html", "dirhtml", "singlehtml")
        for mime in (FIGURE_MIME, CLAIMS_MIME)
    ]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """Nodes for our two mime types, ``None`` for any other."""
        if data.mime_type == FIGURE_MIME:
            return [figure_node(data.string, renderer.renderer.document)]
        if data.mime_type == CLAIMS_MIME:
            return [claims_node(data.string)]
        return None


def figure_node(payload: str, document: nodes.document) -> nodes.raw:
    """The figure as one raw node; attribute ``aix_figure`` holds its payload without the item.

    A figure that stands twice on a page gets a numbered id.
    """
    drawing = Drawing.from_payload(payload)
    seen = document.setdefault("aix_figures", [])
    seen.append(drawing.digest)
    again = seen.count(drawing.digest)
    name = figure_id(drawing) + (f"-{again}" if again > 1 else "")
    text = figure_html(drawing, element_id=name)
    about = {"id": name, "hash": drawing.digest, "alt": drawing.alt, "rules": drawing.rules}
    return nodes.raw("", text, format="html", aix_figure=about)


def claims_node(payload: str) -> nodes.container:
    """The claims table in a container whose attribute ``aix_claims`` is the JSON text."""
    from aiexplained.viz.claims import claims_html

    table = nodes.raw("", claims_html(json.loads(payload)), format="html")
    return nodes.container("", table, classes=["aix-claims"], aix_claims=payload)


def figures(doctree: nodes.Node) -> Iterator[nodes.raw]:
    """Raw nodes of all figures below ``doctree``."""
    return (node for node in doctree.findall(nodes.raw) if "aix_figure" in node)


def _picture_folder(app: Any) -> Path:
    folder: str = app.config.aix_pictures
    return Path(app.confdir, folder)


def _finish_figures(app: Any, doctree: nodes.document, docname: str) -> None:
    """Fit the figures to the page being written: their pictures, and large documents apart."""
    if app.builder.format != "html":
        return
    up = "../" * app.builder.get_target_uri(docname).count("/")
    for node in figures(doctree):
        about = node["aix_figure"]
        text = node.astext()
        name = f"{about['hash']}.png"
        if (_picture_folder(app) / name).is_file():
            picture = picture_html(about["alt"], f"{up}_static/{PICTURES}/{name}")
            text = text.replace(NO_PICTURE, picture, 1)
        island = ISLAND.search(text)
        if island and len(island[1]) > LARGEST_ISLAND:
            _write_document(Path(app.outdir), about["hash"], island[1])
            text = text.replace(island[0], "", 1)
        node.children = [nodes.Text(text)]


def _write_document(outdir: Path, name: str, item: str) -> None:
    folder = outdir / "_static" / DOCUMENTS
    folder.mkdir(parents=True, exist_ok=True)
    script = f"aiexplained.documents[{json.dumps(name)}] = {json.dumps(item)};\n"
    (folder / f"{name}.js").write_text(script, encoding="utf-8")


def _copy_pictures(app: Any, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / PICTURES
    for picture in sorted(_picture_folder(app).glob("*.png")):
        target.mkdir(parents=True, exist_ok=True)
        (target / picture.name).write_bytes(picture.read_bytes())


def _pages_with_new_pictures(app: Any, env: Any) -> list[str]:
    """Pages to write again, all of them, when the set of pictures has changed."""
    now = sorted(picture.name for picture in _picture_folder(app).glob("*.png"))
    before = getattr(env, "aix_pictures", None)
    env.aix_pictures = now
    return [] if before in (None, now) else sorted(env.all_docs)


def setup(app: Any) -> dict[str, Any]:
    """Register the pictures with Sphinx: ``extensions = ["aiexplained.viz.render"]``."""
    app.add_config_value("aix_pictures", "_pictures", "", [str])
    app.connect("doctree-resolved", _finish_figures)
    app.connect("env-updated", _pages_with_new_pictures)
    app.connect("build-finished", _copy_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
