"""``feed.xml``: an Atom feed (RFC 4287) of the concepts, newest first, with their full text.

Written after each build from the registry and the built pages, and only where the site has an
address. Dates are those of the registry, so two builds give the same feed.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from docutils import nodes
from sphinx.application import Sphinx

from aiexplained.registry import Concept

from .addresses import BUILDERS, address, site_address, write_or_remove
from .fulltext import article
from .lookup import concepts

NAME = "feed.xml"
ATOM = "http://www.w3.org/2005/Atom"
NOT_NEWS = "h1, .aix-head-facts, .aix-head-links"
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold; the output of a cell may."""


def write_feed(app: Sphinx, error: Exception | None) -> None:
    """Write the feed; remove the one of an earlier build where the site has no address now."""
    if error or app.builder.name not in BUILDERS:
        return
    found = [c for c in concepts(app.env) if c.page in app.env.found_docs]
    text = ""
    if app.config.html_baseurl and found:
        feed = feed_of(app, found)
        ET.indent(feed)
        text = ET.tostring(feed, encoding="unicode", xml_declaration=True)
    write_or_remove(app, NAME, text)


def feed_of(app: Sphinx, found: list[Concept]) -> ET.Element:
    """The feed's root element; at least one concept is needed, since a feed has a date."""
    home = address(app, app.config.root_doc)
    feed = ET.Element("feed", {"xmlns": ATOM, "xml:lang": app.config.language})
    _add(feed, "id", home)
    _add(feed, "title", app.config.project)
    _add(feed, "updated", instant(max(c.revised or c.date for c in found)))
    _add(feed, "link", rel="self", type="application/atom+xml", href=site_address(app, NAME))
    _add(feed, "link", rel="alternate", type="text/html", href=home)
    _add(_add(feed, "author"), "name", app.config.author)
    _add(feed, "rights", app.config.copyright)
    for concept in found:
        _add_entry(app, feed, concept)
    return feed


def _add_entry(app: Sphinx, feed: ET.Element, concept: Concept) -> None:
    entry = _add(feed, "entry")
    page = address(app, concept.page)
    _add(entry, "id", page)
    _add(entry, "title", f"{concept.title}: {concept.headline}")
    _add(entry, "published", instant(concept.date))
    _add(entry, "updated", instant(concept.revised or concept.date))
    _add(entry, "link", rel="alternate", type="text/html", href=page)
    _add(entry, "category", term=concept.tag)
    _add(entry, "summary", concept.summary)
    _add(entry, "content", text_of(app, concept, page), type="html")


def text_of(app: Sphinx, concept: Concept, page: str) -> str:
    """HTML of the page, without what the entry says already or what changes from day to day."""
    text = article(Path(app.builder.get_outfilename(concept.page)), base=page)
    for part in text.select(NOT_NEWS):
        part.extract()
    return NOT_XML.sub("", text.decode_contents())


def instant(date: str) -> str:
    """The first second of an ISO date, as RFC 3339 writes it."""
    return f"{date}T00:00:00Z"


def _add(parent: ET.Element, name: str, text: str | None = None, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, name, attributes)
    child.text = text
    return child


def announce(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Tell readers' programs in every page's head where the feed is."""
    if app.config.html_baseurl and app.builder.name in BUILDERS and concepts(app.env):
        link = context["pathto"](NAME, resource=True)
        context["metatags"] = context.get("metatags", "") + (
            f'<link rel="alternate" type="application/atom+xml" '
            f'title="{html.escape(app.config.project)}" href="{html.escape(link)}">\n'
        )


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", announce)
    app.connect("build-finished", write_feed)
