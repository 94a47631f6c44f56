"""Where things are: addresses on the published site, and ways from a page to the site's top."""

from __future__ import annotations

import posixpath
from pathlib import Path

from sphinx.application import Sphinx

BUILDERS = ("html", "dirhtml")
"""Builders that make a site to publish."""


def address(app: Sphinx, docname: str) -> str:
    """Address of a page on the published site; empty while the site has none."""
    base = app.config.html_baseurl
    return posixpath.join(base, app.builder.get_target_uri(docname)) if base else ""


def site_address(app: Sphinx, name: str) -> str:
    """Address of a file at the site's top; empty while the site has no address."""
    base = app.config.html_baseurl
    return posixpath.join(base, name) if base else ""


def up_from(app: Sphinx, docname: str) -> str:
    """The way from a page to the site's top, such as ``"../"``; empty at the top."""
    return "../" * app.builder.get_target_uri(docname).count("/")


def write_or_remove(app: Sphinx, name: str, text: str) -> None:
    """Write a file at the site's top; without text, remove what an earlier build left there."""
    target = Path(app.outdir, name)
    if text:
        target.write_text(text, encoding="utf-8")
    else:
        target.unlink(missing_ok=True)
