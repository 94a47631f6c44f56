"""The site's own Sphinx extension, one idea a file.

=========== ====================================================================
alone       one page built without the other executed ones
lookup      the registry as the pages see it; re-reads a page when its concept changed
discover    concept cards and the table of contents, generated from the registry
card        head of a concept page
claims      numbers of the sources, verdict badges, links for reporting an error
ledger      all claims on one page, and as JSON and CSV
finding     what the search finds beside words and symbols
recorded    where recorded results come from, and a badge when they are out of date
status      what the build executed, when and with what
questions   predictions and recall questions
fold        folded parts, such as an appendix
fresh       execution cache keyed on what a page really uses
notebooks   executed pages as notebooks for JupyterLab and Colab
mathkatex   math rendered while the site is built
pictures    thumbnails of the cards
assets      scripts and styles that live in the package, copied to the site
icons       icon fonts cut down to what the site shows
policy      a content-security policy that the site satisfies
feed        an Atom feed of the concepts with their full text
social      title, description and card of a page, for search and for sharing
llms        llms.txt, for programs that read the site
moved       old addresses of pages that moved
sitemap     addresses of all pages, for search engines
apipages    reference of the package's public names
=========== ====================================================================

Programs beside the build: ``new`` writes the skeleton of a concept, ``socialcards`` draws cards,
``archive`` packs the site, ``compare`` compares two builds; ``pagerules`` says what is wrong with a
page.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

PARTS = (
    "alone", "lookup", "pictures", "discover", "card", "claims", "ledger", "finding", "recorded",
    "status", "questions", "fold", "fresh", "notebooks", "mathkatex", "assets", "icons", "policy",
    "feed", "social", "llms", "moved", "sitemap", "apipages",
)  # fmt: skip


def setup(app: Sphinx) -> dict[str, Any]:
    """Set up all parts; the addresses in their settings may be empty."""
    app.add_config_value("aix_repository", "", "html", [str])
    for part in PARTS:
        import_module(f"{__name__}.{part}").setup(app)
    return {
        "version": "1", "env_version": _own_version(), "parallel_read_safe": True,
        "parallel_write_safe": True,
    }  # fmt: skip


def _own_version() -> int:
    """A number that changes with this extension, so that an edit of it builds every page anew."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return zlib.crc32(b"".join(path.read_bytes() for path in files))
