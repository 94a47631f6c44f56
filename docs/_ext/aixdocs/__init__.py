"""The site's own Sphinx extension, one idea a file.

========== =====================================================================
lookup     the registry as the pages see it; re-reads a page when its concept changed
discover   concept cards and the table of contents, generated from the registry
card       head of a concept page
claims     numbers of the sources, verdict badges, the ledger
questions  predictions and recall questions
fold       folded parts, such as an appendix
fresh      execution cache keyed on what a page really uses
mathkatex  math rendered while the site is built
pictures   thumbnails of the cards
assets     scripts and styles that live in the package, copied to the site
apipages   reference of the package's public names
========== =====================================================================
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from . import (
    apipages,
    assets,
    card,
    claims,
    discover,
    fold,
    fresh,
    lookup,
    mathkatex,
    pictures,
    questions,
)

PARTS = (
    lookup, pictures, discover, card, claims, questions, fold, fresh, mathkatex, assets, apipages,
)  # fmt: skip


def setup(app: Sphinx) -> dict[str, Any]:
    for part in PARTS:
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
