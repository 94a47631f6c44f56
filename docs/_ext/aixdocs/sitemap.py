"""``sitemap.xml``: the addresses of all pages, for search engines.

From the environment, not from the pages written in this run, so that a rebuild of one page lists
the others too. Written after each build, and only where the site has an address.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from sphinx.application import Sphinx

from .addresses import BUILDERS, address, write_or_remove

NAME = "sitemap.xml"
NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"


def write_sitemap(app: Sphinx, error: Exception | None) -> None:
    """Write the map; remove the one of an earlier build where the site has no address now."""
    if error or app.builder.name not in BUILDERS:
        return
    if not app.config.html_baseurl:
        write_or_remove(app, NAME, "")
        return
    pages = ET.Element("urlset", xmlns=NAMESPACE)
    for docname in sorted(app.env.found_docs):
        ET.SubElement(ET.SubElement(pages, "url"), "loc").text = address(app, docname)
    ET.indent(pages)
    write_or_remove(app, NAME, ET.tostring(pages, encoding="unicode", xml_declaration=True))


def setup(app: Sphinx) -> None:
    app.connect("build-finished", write_sitemap)
