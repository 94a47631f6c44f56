"""HTML of a figure: on the site, where shared scripts draw it, and on its own in a notebook."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass
from typing import Any

from aiexplained.viz.assets import BOKEH_CDN, cdn_hashes, rule_file, static_text

FIGURE_MIME = "application/vnd.aiexplained.figure+json"
CLAIMS_MIME = "application/vnd.aiexplained.claims+json"

NO_PICTURE = (
    '<noscript><p class="aix-noscript">This figure is drawn by JavaScript. '
    "The text below says what it shows.</p></noscript>"
)
"""Stands in every figure; a page replaces it by the static picture where there is one."""


@dataclass(frozen=True)
class Drawing:
    """A figure's document and what a page needs to draw it.

    Args:
        alt: Text alternative in the first state.
        digest: Hash of ``item``.
        item: Canonical JSON text for ``Bokeh.embed.embed_item``.
        bokeh: Version of BokehJS.
        parts: Files of BokehJS, in the order of loading.
        rules: Page rules that must be loaded first.
        height: Pixels to reserve.
        narrow_height: Pixels to reserve on a phone, where rows wrap.
        has_table: Whether the figure offers its data as a table.
    """

    alt: str
    digest: str
    item: str
    bokeh: str
    parts: tuple[str, ...]
    rules: tuple[str, ...]
    height: int
    narrow_height: int
    has_table: bool

    def payload(self) -> dict[str, Any]:
        """The drawing as plain JSON values; ``item`` stays text."""
        return asdict(self)

    @classmethod
    def from_payload(cls, text: str) -> Drawing:
        """Read what :meth:`payload` gave, from its JSON text."""
        values = json.loads(text)
        return cls(**(values | {key: tuple(values[key]) for key in ("parts", "rules")}))


def figure_html(
    drawing: Drawing, *, element_id: str | None = None, data: dict[str, str] | None = None
) -> str:
    """The ``<figure>`` that the loader draws into; readable before and without it.

    Args:
        drawing: What to draw.
        element_id: Id of the element; made from the hash if left out.
        data: More ``data-`` attributes.
    """
    attributes = {
        "state": "waiting",
        "hash": drawing.digest,
        "bokeh": drawing.bokeh,
        "parts": " ".join(drawing.parts),
        "rules": " ".join(drawing.rules),
    } | (data or {})
    marks = " ".join(f'data-{key}="{html.escape(value)}"' for key, value in attributes.items())
    alt = html.escape(drawing.alt)
    style = f"--aix-height:{drawing.height}px;--aix-narrow-height:{drawing.narrow_height}px"
    table = (
        '<details class="aix-data"><summary>Data as a table</summary></details>'
        if drawing.has_table
        else ""
    )
    return (
        f'<figure class="aix-figure" id="{element_id or figure_id(drawing)}" {marks} '
        f'style="{style}">'
        f'<div class="aix-drawing" role="group" aria-label="{alt}"></div>'
        f"{NO_PICTURE}"
        f'<figcaption class="aix-caption" aria-live="polite">{alt}</figcaption>{table}'
        f'<script type="application/json" class="aix-document">{drawing.item}</script>'
        "</figure>"
    )


def figure_id(drawing: Drawing) -> str:
    """Id of the figure's element, the same in every build."""
    return f"figure-{drawing.digest}"


def notebook_figure(drawing: Drawing) -> str:
    """The figure with its style and scripts, for JupyterLab, Colab and VS Code.

    BokehJS itself comes from Bokeh's own servers, checked by hash. Page rules are inlined.
    """
    rules = "".join(
        f"<script>{_inline(rule_file(name).read_text('utf-8'))}</script>" for name in drawing.rules
    )
    figure = figure_html(
        drawing, data={"cdn": BOKEH_CDN, "integrity": json.dumps(cdn_hashes(), sort_keys=True)}
    )
    return (
        f"<style>{static_text('explorables.css')}</style>{figure}{rules}"
        f"<script>{_inline(static_text('explorables.js'))}</script>"
    )


def picture_html(alt: str, address: str) -> str:
    """What stands in place of :data:`NO_PICTURE` where a static picture exists."""
    return (
        f'<noscript><img class="aix-picture" src="{html.escape(address)}" '
        f'alt="{html.escape(alt)}" '
        'loading="lazy"></noscript>'
    )


def _inline(script: str) -> str:
    return script.replace("</", "<\\/")
